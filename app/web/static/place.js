// Where a passage stands, in words, and the link behind which its quote is marked.

export function placeOf(passage) {
  return [passage.section, passage.page && `page ${passage.page}`].filter(Boolean).join(" · ");
}

// The quote travels in the fragment, which a browser keeps to itself: no server's log gets to see it.
export function linkTo(passage, quote = "") {
  return quote ? `${passage.url}#quote=${encodeURIComponent(quote)}` : passage.url;
}
