// Who did what, newest first.

import { byId, element, moment, onePage, onSubmit, say } from "./shared.js";

let query = {};
let after = "";

function row(entry) {
  const detail = Object.entries(entry.detail ?? {}).map(
    ([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  const from = [entry.key && `key ${entry.key}`, entry.address].filter(Boolean).join(", ");
  return element(
    "tr",
    {},
    element("td", {}, moment(entry.at)),
    element("td", { "data-name": "Who" }, entry.actor, from && element("p", { class: "muted" }, from)),
    element("td", { "data-name": "Did what" }, entry.action),
    element(
      "td",
      { "data-name": "With" },
      entry.object,
      detail.length ? element("p", { class: "muted" }, detail.join(", ")) : null,
    ),
    element("td", { "data-name": "Request", class: "muted" }, entry.request_id),
  );
}

async function more() {
  const page = await onePage("/api/v1/audit", { ...query, after, limit: 50 });
  byId("entries").append(...page.items.map(row));
  after = page.next ?? "";
  byId("more").hidden = !after;
  byId("none").hidden = byId("entries").children.length > 0;
}

onSubmit(byId("filter"), async (form) => {
  query = { actor: form.get("actor").trim(), action: form.get("action").trim() };
  after = "";
  byId("entries").replaceChildren();
  await more();
});

byId("more").addEventListener("click", () => more().catch((error) => say(error.message, true)));

more().catch((error) => say(`${error.message} ${error.help ?? ""}`, true));
