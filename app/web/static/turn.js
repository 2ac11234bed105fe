// One question with its answer: first the draft as it is written, then what could be checked.

import { feedback } from "./feedback.js";
import { action, copied, element, problemBox } from "./shared.js";
import { linkTo, placeOf } from "./place.js";

const MARKER = /\[(\d+)\]/;

export function newTurn(question) {
  const body = element("div", { class: "answer" });
  const article = element("article", { class: "turn" }, element("h2", {}, question), body);
  let draft = null;
  return {
    article,
    write(text) {
      if (!draft) {
        draft = element("p", { class: "text draft" });
        body.replaceChildren(element("p", { class: "muted small" }, "Draft, not checked yet"), draft);
      }
      draft.append(text);
    },
    startAgain() {
      draft?.replaceChildren();
    },
    stop() {
      body.append(element("p", { class: "muted" }, draft ? "Stopped; this draft was not checked." : "Stopped."));
    },
    fail(error, again) {
      body.replaceChildren(problemBox(error, action("Ask again", again)));
    },
    answer(answer, closest = [], gone = 0) {
      body.replaceChildren(
        ...(answer.supported ? supported(answer) : refused(closest, gone)),
        leftOut(answer),
        about(answer),
      );
    },
  };
}

function supported(answer) {
  const text = element("p", { class: "text" }, ...withLinks(answer.answer, answer.citations));
  const sources = answer.citations.map((citation) =>
    element(
      "li",
      { value: citation.number },
      element("a", { href: linkTo(citation, citation.quote) }, citation.title),
      element("span", { class: "muted" }, placeOf(citation) && ` · ${placeOf(citation)}`),
      element("blockquote", {}, citation.quote),
    ),
  );
  return [text, element("h3", {}, "Sources"), element("ol", { class: "sources" }, ...sources)];
}

function refused(closest, gone) {
  const passages = closest.map((passage) =>
    element(
      "li",
      {},
      element("a", { href: linkTo(passage) }, passage.title),
      element("span", { class: "muted" }, placeOf(passage) && ` · ${placeOf(passage)}`),
    ),
  );
  const found = passages.length
    ? [element("h3", {}, "Closest passages"), element("ul", { class: "sources" }, ...passages)]
    : [];
  return [
    element("p", { class: "text" }, "Not in the documents: no passage of this collection supports an answer."),
    ...found,
    gone ? element("p", { class: "muted small" }, `${closest.length ? "Others" : "The closest passages"} are gone.`) : "",
  ];
}

function leftOut(answer) {
  if (!answer.unsupported?.length) return "";
  return element(
    "details",
    {},
    element("summary", {}, "Left out, since no passage says so"),
    element("ul", {}, ...answer.unsupported.map((sentence) => element("li", {}, sentence))),
  );
}

function about(answer) {
  const copy = action("Copy answer", () => copied(plain(answer), copy), { class: "plain" });
  const model = element(
    "span",
    { class: "muted small grow" },
    answer.model ? `Written by ${answer.model}, checked against the documents` : "",
  );
  return element(
    "footer",
    {},
    element("div", { class: "row" }, model, answer.supported ? copy : ""),
    feedback(answer.id, answer.feedback),
  );
}

// The text with each [1] as a link to the passage behind it; a number without a source stays as it is.
function withLinks(text, citations) {
  const known = new Map(citations.map((citation) => [`${citation.number}`, citation]));
  // No line begins with a number that belongs to the word before it.
  return text
    .replace(/ (?=\[\d+\])/g, "\u00a0")
    .split(MARKER)
    .map((piece, place) => {
      const citation = place % 2 ? known.get(piece) : null;
      if (!citation) return place % 2 ? `[${piece}]` : piece;
      const name = `Source ${piece}: ${[citation.title, placeOf(citation)].filter(Boolean).join(", ")}`;
      return element("a", { class: "marker", href: linkTo(citation, citation.quote), "aria-label": name }, piece);
    });
}

function plain(answer) {
  const sources = answer.citations.map(
    (citation) => `[${citation.number}] ${[citation.title, placeOf(citation)].filter(Boolean).join(", ")}`,
  );
  return [answer.answer, "", ...sources].join("\n");
}
