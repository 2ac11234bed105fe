// Where a passage stands, in words, and the link behind which its quote is marked.

export function placeOf(passage) {
  const { slide, sheet, rows, page = passage.page } = passage.place ?? {};
  const spots = [page && `page ${page}`, slide && `slide ${slide}`, sheet && `sheet ${sheet}`, rows && rowsOf(rows)];
  return [passage.section, ...spots].filter(Boolean).join(" · ");
}

function rowsOf([first, last]) {
  return first === last ? `row ${first}` : `rows ${first} to ${last}`;
}

// The quote travels in the fragment, which a browser keeps to itself: no server's log gets to see it.
export function linkTo(passage, quote = "") {
  return quote ? `${passage.url}#quote=${encodeURIComponent(quote)}` : passage.url;
}
