// What keeps people from reading or working this page: names, headings, contrast, size of text, width.
() => {
  const flaws = [];
  const visible = (one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const describe = (one) =>
    `${one.tagName.toLowerCase()}${one.id ? `#${one.id}` : ""} ${one.textContent.trim().slice(0, 40)}`;

  const named = (one) =>
    one.labels?.length ||
    one.getAttribute("aria-label") ||
    one.getAttribute("aria-labelledby") ||
    (!one.matches("input,select,textarea") && one.textContent.trim());
  for (const one of document.querySelectorAll(
    "input:not([type=hidden]),select,textarea,button,a[href],progress,summary",
  )) {
    if (visible(one) && !named(one)) flaws.push(`without a name: ${describe(one)}`);
    // Who speaks to the computer says what stands there; a sign such as × is not said.
    const [said, name] = [one.matches("button,a") ? one.textContent.trim() : "", one.getAttribute("aria-label")];
    if (name && /^[a-z ]+$/i.test(said) && !name.includes(said))
      flaws.push(`named otherwise than it reads: ${describe(one)}`);
  }
  for (const one of document.querySelectorAll("img:not([alt])")) flaws.push(`image without alt: ${one.src}`);

  const levels = [...document.querySelectorAll("main h1,main h2,main h3,main h4")]
    .filter(visible)
    .map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) flaws.push(`headings of the first level: ${levels}`);
  levels.forEach((level, place) => {
    if (level > (levels[place - 1] ?? 0) + 1) flaws.push(`headings leave one out: ${levels}`);
  });
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  ids.filter((id, place) => ids.indexOf(id) !== place).forEach((id) => flaws.push(`twice the same id: ${id}`));
  if (!document.documentElement.lang || !document.title) flaws.push("no language or title");
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("body *")].filter(
      (one) => visible(one) && one.getBoundingClientRect().right > innerWidth + 1,
    );
    flaws.push(`wider than the window: ${wide.map(describe).join(" | ")}`);
  }

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) =>
      value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const colors = [];
    for (let at = one; at; at = at.parentElement) colors.unshift(getComputedStyle(at).backgroundColor);
    return ["white", ...colors];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    if (
      !texts.currentNode.data.trim() ||
      seen.has(one) ||
      !visible(one) ||
      one.closest(":disabled,.unseen,option,.skip")
    )
      continue;
    seen.add(one);
    const style = getComputedStyle(one);
    const size = parseFloat(style.fontSize);
    if (size < 16) flaws.push(`${size}px: ${describe(one)}`);
    const [a, b] = [light(over([...behind(one), style.color])), light(over(behind(one)))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) flaws.push(`contrast ${ratio.toFixed(2)}: ${describe(one)}`);
  }
  return flaws;
};
