// A document as a row of a table, and what its state means in words.

import { confirmed } from "./dialogs.js";
import { action, bytes, call, element, moment, say } from "./shared.js";

export const STATES = {
  queued: "waiting",
  working: "being read",
  parsing: "being read",
  embedding: "being indexed",
  indexed: "searchable",
  failed: "failed",
  cancelled: "cancelled",
};

export function isSettled(document) {
  return ["indexed", "failed", "cancelled"].includes(document.state);
}

export function stateOf(document) {
  const { done, total } = document.progress ?? {};
  const progress = total ? `, ${done} of ${total} passages` : "";
  const badge = element("span", { class: `state ${document.state}` }, STATES[document.state] ?? document.state);
  return [badge, element("span", { class: "muted" }, progress), document.error && element("p", { class: "muted" }, document.error)];
}

// The row; ``changed`` is called when the document is gone or has another state.
export function row(document, mayWrite, changed) {
  const name = document.passages ? element("a", { href: `/documents/${document.id}/passages/0` }, document.title) : document.title;
  const file = document.title === document.file_name ? null : element("p", { class: "muted" }, document.file_name);
  return element(
    "tr",
    { "data-document": document.id },
    element("td", {}, name, file),
    element("td", {}, ...stateOf(document)),
    element("td", { "data-name": "Size" }, bytes(document.size)),
    element("td", { "data-name": "Changed" }, moment(document.changed_at)),
    element("td", { class: "actions" }, ...actions(document, mayWrite, changed)),
  );
}

function actions(document, mayWrite, changed) {
  const path = `/api/v1/documents/${document.id}`;
  const download = element("a", { class: "button plain", href: `${path}/source`, download: true, "aria-label": `Download ${document.file_name}` }, "Download");
  const remove = action("Delete", () => removed(document, path, changed), { class: "plain danger", "aria-label": `Delete ${document.file_name}` });
  return mayWrite ? [download, remove] : [download];
}

async function removed(document, path, changed) {
  const consequence = "Its text goes from search and answers too. This cannot be undone.";
  if (!(await confirmed(`Delete ${document.file_name}?`, consequence, "Delete"))) return;
  await call("DELETE", path);
  say(`${document.file_name} is deleted.`);
  changed(null);
}
