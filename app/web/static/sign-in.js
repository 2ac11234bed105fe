// Back to where one wanted to go, the marked quote in the address included.

const form = document.querySelector("form.card");
const next = form.elements.next.value;

form.setAttribute("action", `/sign-in${location.hash}`);
const provider = document.getElementById("provider");
if (provider) provider.href = `/sign-in/oidc?next=${encodeURIComponent(next + location.hash)}`;

// A link on another site comes without the cookie, since no other site may send it. From here it goes along.
if (location.search) {
  const answer = await fetch(next, { redirect: "manual" }).catch(() => null);
  if (answer?.ok) location.replace(next + location.hash);
}
