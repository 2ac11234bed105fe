// One's own account: password, keys, and the end of every sign-in.

import { confirmed } from "./dialogs.js";
import { action, byId, call, copied, element, every, moment, onSubmit, read, say } from "./shared.js";

async function about() {
  const { role, groups } = await read("/api/v1/me");
  byId("about").textContent = `Role ${role}${groups?.length ? `, in ${groups.join(", ")}` : ""}`;
}

async function list() {
  const rows = [];
  for await (const key of every("/api/v1/keys")) rows.push(row(key));
  byId("keys").replaceChildren(...rows);
  byId("no-keys").hidden = rows.length > 0;
}

function row(key) {
  const revoke = action("Revoke", () => revoked(key), { class: "plain danger", "aria-label": `Revoke ${key.name}` });
  return element(
    "tr",
    {},
    element("td", {}, element("strong", {}, key.name)),
    element("td", { "data-name": "May" }, key.scopes.join(", ")),
    element("td", { "data-name": "Until" }, moment(key.expires_at)),
    element("td", { "data-name": "Last used" }, key.last_used_at ? moment(key.last_used_at) : "never"),
    element("td", { class: "actions" }, revoke),
  );
}

async function revoked(key) {
  if (!(await confirmed(`Revoke ${key.name}?`, "Programs that use it are turned away at once.", "Revoke"))) return;
  await call("DELETE", `/api/v1/keys/${key.id}`);
  say(`${key.name} is revoked.`);
  await list();
}

onSubmit(byId("new-key"), async (form) => {
  const scopes = form.get("scope").split(" ");
  const wanted = { name: form.get("name"), scopes, expires_in_days: Number(form.get("days")) };
  const made = await (await call("POST", "/api/v1/keys", wanted)).json();
  const place = byId("secret");
  place.querySelector(".secret").textContent = made.secret;
  place.hidden = false;
  place.scrollIntoView({ block: "center" });
  byId("copy").focus();
  byId("new-key").reset();
  await list();
});

byId("copy").addEventListener("click", (event) =>
  copied(byId("secret").querySelector(".secret").textContent, event.currentTarget),
);

// Who signs in at the site's provider may have none.
const password = byId("password");
if (password)
  onSubmit(password, async (form) => {
    await call("PUT", "/api/v1/me/password", { current: form.get("current"), new: form.get("new") });
    password.reset();
    say("Your password is changed.");
  });

byId("everywhere").addEventListener("click", async () => {
  if (!(await confirmed("Sign out everywhere?", "You will have to sign in again, here too.", "Sign out"))) return;
  try {
    await call("DELETE", "/api/v1/me/sessions");
    location.assign("/sign-in");
  } catch (error) {
    say(error.message, true);
  }
});

about().catch(() => {});
list().catch((error) => say(error.message, true));
