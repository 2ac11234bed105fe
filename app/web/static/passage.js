// Marks the quote that the address's fragment names, and brings it into view.

import { byId, element } from "./shared.js";

function mark() {
  const passage = byId("passage");
  const text = passage.textContent;
  const quote = decodeURIComponent(/^#quote=(.*)$/s.exec(location.hash)?.[1] ?? "");
  const start = quote ? text.indexOf(quote) : -1;
  if (start < 0) {
    passage.replaceChildren(text);
    return;
  }
  const marked = element("mark", {}, quote);
  passage.replaceChildren(text.slice(0, start), marked, text.slice(start + quote.length));
  marked.scrollIntoView({ block: "center" });
}

mark();
addEventListener("hashchange", mark);
