// A document as a row of a table, and what its state means in words.

import { confirmed } from "./dialogs.js";
import { action, bytes, call, element, moment, say } from "./shared.js";

export const STATES = {
  queued: "waiting",
  parsing: "being read",
  embedding: "being indexed",
  indexed: "searchable",
  failed: "failed",
  cancelled: "cancelled",
};

export function isSettled(document) {
  return ["indexed", "failed", "cancelled"].includes(document.state);
}

// Settled, and found wherever somebody may ask.
export function isEverywhere(document) {
  return isSettled(document) && (document.state !== "indexed" || Object.values(document.searchable_on).every(Boolean));
}

export function stateOf(document) {
  const { done, total } = document.progress ?? {};
  const badge = element("span", { class: `state ${document.state}` }, STATES[document.state] ?? document.state);
  const progress = total ? element("span", { class: "muted" }, ` ${done} of ${total} passages`) : null;
  return [badge, progress, document.error && element("p", { class: "muted" }, document.error)].filter(Boolean);
}

function where(document) {
  const hosts = Object.entries(document.searchable_on);
  if (document.state !== "indexed" || !hosts.length) return null;
  const having = hosts.filter(([, has]) => has).map(([host]) => host);
  const lacking = hosts.filter(([, has]) => !has).map(([host]) => host);
  const parts = [having.length && `on ${having.join(", ")}`, lacking.length && `not yet on ${lacking.join(", ")}`];
  return element("p", { class: "muted" }, parts.filter(Boolean).join("; "));
}

// The row; ``changed`` is called when the document is gone or has another state.
export function row(document, mayWrite, changed) {
  const name = document.passages
    ? element("a", { href: `/documents/${document.id}/passages/0` }, document.title)
    : document.title;
  const file = document.title === document.file_name ? null : element("p", { class: "muted" }, document.file_name);
  return element(
    "tr",
    { "data-document": document.id },
    element("td", {}, name, file),
    element("td", {}, ...stateOf(document), where(document)),
    element("td", { "data-name": "Size", class: "whole" }, bytes(document.size)),
    element("td", { "data-name": "Changed" }, moment(document.changed_at)),
    element("td", { class: "actions" }, ...actions(document, mayWrite, changed)),
  );
}

function actions(document, mayWrite, changed) {
  const path = `/api/v1/documents/${document.id}`;
  const name = document.file_name;
  const download = element(
    "a",
    { class: "button plain", href: `${path}/source`, download: true, "aria-label": `Download ${name}` },
    "Download",
  );
  if (!mayWrite) return [download];
  const ask = async (verb) => changed(await (await call("POST", `${path}/${verb}`)).json());
  const retry = action("Try again", () => ask("retry"), { class: "plain", "aria-label": `Try again: ${name}` });
  const cancel = action("Cancel", () => ask("cancel"), { class: "plain", "aria-label": `Cancel ${name}` });
  const remove = action("Delete", () => removed(document, path, changed), {
    class: "plain danger",
    "aria-label": `Delete ${name}`,
  });
  const givenUp = ["failed", "cancelled"].includes(document.state);
  return [givenUp ? retry : null, isSettled(document) ? null : cancel, download, remove];
}

async function removed(document, path, changed) {
  const consequence = "Its text goes from search and answers too. This cannot be undone.";
  if (!(await confirmed(`Delete ${document.file_name}?`, consequence, "Delete"))) return;
  await call("DELETE", path);
  say(`${document.file_name} is deleted.`);
  changed(null);
}
