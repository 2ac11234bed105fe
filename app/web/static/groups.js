// Groups and their members; ``changed`` is called when somebody came or went.

import { asked, confirmed } from "./dialogs.js";
import { action, byId, call, element, every, onSubmit, say } from "./shared.js";

function address(name) {
  return `/api/v1/groups/${encodeURIComponent(name)}`;
}

export async function showGroups(changed) {
  async function list() {
    const rows = [];
    for await (const group of every("/api/v1/groups")) rows.push(row(group));
    byId("groups").replaceChildren(...rows);
    byId("no-groups").hidden = rows.length > 0;
  }

  function row(group) {
    const members = group.members.map((member) => {
      const out = action("×", () => leave(group.name, member), {
        class: "plain danger",
        "aria-label": `Take ${member} out of ${group.name}`,
      });
      return element("span", { class: "member" }, member, out);
    });
    const add = action("Add a member", () => join(group.name), {
      class: "plain",
      "aria-label": `Add a member to ${group.name}`,
    });
    const remove = action("Delete", () => removed(group.name), {
      class: "plain danger",
      "aria-label": `Delete group ${group.name}`,
    });
    return element(
      "tr",
      {},
      element("td", {}, element("strong", {}, group.name)),
      element("td", { "data-name": "Members" }, ...(members.length ? members : ["none"])),
      element("td", { class: "actions" }, add, remove),
    );
  }

  async function join(group) {
    const name = await asked(
      `Add to ${group}`,
      "Name of the person",
      { autocapitalize: "none", autocomplete: "off" },
      "Add",
    );
    if (!name) return;
    await call("PUT", `${address(group)}/members/${encodeURIComponent(name.trim())}`);
    await told(`${name.trim()} is in ${group}.`);
  }

  async function leave(group, member) {
    await call("DELETE", `${address(group)}/members/${encodeURIComponent(member)}`);
    await told(`${member} is no longer in ${group}.`);
  }

  async function removed(group) {
    if (!(await confirmed(`Delete group ${group}?`, "What was granted to it ends for its members.", "Delete"))) return;
    await call("DELETE", address(group));
    await told(`Group ${group} is deleted.`);
  }

  async function told(text) {
    say(text);
    await list();
    await changed();
  }

  onSubmit(byId("new-group"), async (form) => {
    await call(
      "POST",
      "/api/v1/groups",
      { name: form.get("name") },
      { headers: { "Idempotency-Key": crypto.randomUUID() } },
    );
    byId("new-group").reset();
    await told(`Group ${form.get("name")} is there.`);
  });
  await list();
}
