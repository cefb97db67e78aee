// What is wrong with a page as it is shown: a list of sentences.
() => {
  const found = [];
  const root = document.documentElement;
  const room = root.clientWidth;
  if (root.scrollWidth > room) found.push(`the page is ${root.scrollWidth} wide, for ${room}`);

  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const isInAScrollingBox = (element) => {
    for (let up = element.parentElement; up; up = up.parentElement) if (scrolls(up)) return true;
    return false;
  };
  for (const element of document.querySelectorAll("main *")) {
    if (scrolls(element) || isInAScrollingBox(element)) continue;
    const box = element.getBoundingClientRect();
    if (box.right > room + 1) found.push(`${element.tagName} ends at ${box.right}, beyond ${room}`);
    const isBlock = getComputedStyle(element).display !== "inline" && !element.closest("svg");
    if (isBlock && element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1)
      found.push(`${element.tagName} is cut off: ${element.textContent.slice(0, 40)}`);
  }

  for (const drawing of document.querySelectorAll("svg")) {
    const frame = drawing.getBoundingClientRect();
    const texts = [...drawing.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    for (const [told, box] of texts) {
      const leaves = [frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom];
      if (Math.max(...leaves) > 1) found.push(`"${told}" leaves its plot`);
    }
  }

  for (const row of document.querySelectorAll("tr")) if (!row.textContent.trim()) found.push("a blank row");

  // The ratio of contrast of WCAG 2.1; 7 is its stricter level.
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.body);
  const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
  if ((high + 0.05) / (low + 0.05) < 7) found.push("text can hardly be told from the page");
  return found;
}
