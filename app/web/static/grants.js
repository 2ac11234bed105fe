// Who may do what with the collection, for those who manage it.

import { action, byId, call, element, every, onSubmit, say } from "./shared.js";

const WORDS = { read: "read and ask", write: "also add and delete documents", manage: "also say who else may" };
const KINDS = { user: "Person", group: "Group" };

export async function showGrants(collection) {
  const path = `/api/v1/collections/${encodeURIComponent(collection)}/grants`;
  const address = (kind, name) => `${path}/${kind}s/${encodeURIComponent(name)}`;

  async function list() {
    const rows = [];
    for await (const grant of every(path)) rows.push(row(grant));
    byId("grants").replaceChildren(...rows);
    byId("no-grants").hidden = rows.length > 0;
  }

  function row(grant) {
    const whose = `${KINDS[grant.kind].toLowerCase()} ${grant.name}`;
    const options = Object.entries(WORDS).map(([value, words]) =>
      element("option", { value, selected: value === grant.permission }, words),
    );
    const select = element("select", { "aria-label": `What ${whose} may do` }, ...options);
    select.addEventListener("change", () =>
      give(grant.kind, grant.name, select.value).catch((error) => say(error.message, true)),
    );
    const take = action("Take away", () => taken(grant, whose), {
      class: "plain danger",
      "aria-label": `Take away access of ${whose}`,
    });
    return element(
      "tr",
      {},
      element("td", {}, grant.name, element("span", { class: "muted" }, ` ${KINDS[grant.kind].toLowerCase()}`)),
      element("td", {}, select),
      element("td", { class: "actions" }, take),
    );
  }

  async function give(kind, name, permission) {
    await call("PUT", address(kind, name), { permission });
    say(`${KINDS[kind]} ${name} may now ${WORDS[permission]}.`);
  }

  async function taken(grant, whose) {
    await call("DELETE", address(grant.kind, grant.name));
    say(`Access of ${whose} is taken away.`);
    await list();
  }

  onSubmit(byId("give"), async (form) => {
    await give(form.get("kind"), form.get("to").trim(), form.get("permission"));
    byId("give").reset();
    await list();
  });
  await list();
}
