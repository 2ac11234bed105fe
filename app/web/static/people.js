// Persons: their roles, passwords, and whether they may sign in.

import { asked, confirmed } from "./dialogs.js";
import { showGroups } from "./groups.js";
import { action, byId, call, element, every, moment, onSubmit, say } from "./shared.js";

const ROLES = ["reader", "editor", "admin"];
// Of the site's provider, where it has one.
const { me, provider, issuer } = byId("people").dataset;

function address(name) {
  return `/api/v1/users/${encodeURIComponent(name)}`;
}

async function list() {
  const rows = [];
  for await (const user of every("/api/v1/users")) rows.push(row(user));
  byId("users").replaceChildren(...rows);
}

function row(user) {
  const shut = user.disabled ? element("span", { class: "state failed" }, "shut out") : null;
  return element(
    "tr",
    {},
    element(
      "td",
      {},
      element("strong", {}, user.name),
      " ",
      user.name === me ? element("span", { class: "muted" }, "you") : shut,
    ),
    element("td", { "data-name": "Role" }, role(user)),
    element("td", { "data-name": "Groups" }, user.groups.join(", ") || "none"),
    element("td", { "data-name": "Since" }, moment(user.created_at)),
    element("td", { class: "actions" }, ...actions(user)),
  );
}

function role(user) {
  // Nobody takes the last administrator's role from themselves.
  if (user.name === me) return user.role;
  const options = ROLES.map((name) => element("option", { selected: name === user.role }, name));
  const select = element("select", { "aria-label": `Role of ${user.name}` }, ...options);
  select.addEventListener("change", () =>
    changed(user.name, { role: select.value }, `${user.name} is now ${select.value}.`).catch((error) =>
      say(error.message, true),
    ),
  );
  return select;
}

function actions(user) {
  const password = action("New password", () => reset(user.name), {
    class: "plain",
    "aria-label": `New password for ${user.name}`,
  });
  // Who links oneself shows the password, as the API can ask for it; another administrator does it here.
  const linked = user.identities.some((one) => one.issuer === issuer);
  const identity = provider && (linked || user.name !== me) ? [link(user)] : [];
  if (user.name === me) return identity;
  const disabled = !user.disabled;
  const done = disabled ? `${user.name} is shut out.` : `${user.name} may sign in again.`;
  const door = action(disabled ? "Shut out" : "Let in", () => changed(user.name, { disabled }, done), {
    class: "plain",
    "aria-label": `${disabled ? "Shut out" : "Let in"} ${user.name}`,
  });
  const remove = action("Delete", () => removed(user.name), {
    class: "plain danger",
    "aria-label": `Delete ${user.name}`,
  });
  return [...identity, password, door, remove];
}

// As whom of the provider's people the user signs in there, if at all.
function link(user) {
  const linked = user.identities.find((one) => one.issuer === issuer);
  const name = linked ? `Unlink from ${provider}` : `Link to ${provider}`;
  return action(name, () => (linked ? unlinked(user.name, linked.subject) : nowLinked(user.name)), {
    class: "plain",
    "aria-label": `${name} for ${user.name}`,
  });
}

async function nowLinked(name) {
  const label = `Subject, as ${provider} and a refused sign-in call the person`;
  const subject = await asked(`Who of ${provider} is ${name}?`, label, { maxlength: 255, autocomplete: "off" }, "Link");
  if (!subject) return;
  await call("PUT", `${address(name)}/identity`, { subject });
  say(`${name} signs in with ${provider} too.`);
  await list();
}

async function unlinked(name, subject) {
  const consequence = `${subject} of ${provider} is signed out, and signs in as ${name} no more.`;
  if (!(await confirmed(`Unlink ${name}?`, consequence, "Unlink"))) return;
  await call("DELETE", `${address(name)}/identity`);
  say(`${name} is unlinked.`);
  await list();
}

async function changed(name, wanted, done) {
  await call("PATCH", address(name), wanted);
  say(done);
  await list();
}

async function reset(name) {
  const field = { type: "password", minlength: 12, autocomplete: "new-password" };
  const password = await asked(`New password for ${name}`, "Password, 12 characters at least", field, "Set it");
  if (password) await changed(name, { password }, `${name} has another password.`);
}

async function removed(name) {
  const consequence = "Their conversations and keys go too; documents and collections stay. This cannot be undone.";
  if (!(await confirmed(`Delete ${name}?`, consequence, "Delete"))) return;
  await call("DELETE", address(name));
  say(`${name} is deleted.`);
  await list();
}

onSubmit(byId("new-user"), async (form) => {
  await call("POST", "/api/v1/users", Object.fromEntries(form), {
    headers: { "Idempotency-Key": crypto.randomUUID() },
  });
  byId("new-user").reset();
  say(`${form.get("name")} is added.`);
  await list();
});

try {
  await list();
  await showGroups(list);
} catch (error) {
  say(`${error.message} ${error.help ?? ""}`, true);
}
