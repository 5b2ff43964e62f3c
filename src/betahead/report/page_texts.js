"use strict";
// Fits texts of figures into the room that they have: titles in lines, names without their middle.
const fitting = (() => {
  const pen = document.createElement("canvas").getContext("2d");
  /** The width of a text of Plotly in pixels, by the font's size and family; an entity counts as one wide letter. */
  function widthIn(size, family) {
    return (text) => {
      pen.font = `${size}px ${family}`;
      return pen.measureText(text.replace(/&#?\w+;/g, "W")).width;
    };
  }
  /** The text with its middle left out, so that it fits; an entity is kept or left out as a whole. */
  function shortened(text, room, width) {
    if (width(text) <= room) return text;
    const signs = text.match(/&#?\w+;|./gsu);
    for (let kept = signs.length - 1; kept > 1; kept--) {
      const head = Math.ceil(kept / 2);
      const found = `${signs.slice(0, head).join("")}…${signs.slice(signs.length - kept + head).join("")}`;
      if (width(found) <= room) return found;
    }
    return "…";
  }
  /** The text in lines that fit, as far as its words do. */
  function inLines(text, room, width) {
    const lines = [];
    for (const word of text.split(" ")) {
      const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
      if (lines.length && width(longer) <= room) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines.join("<br>");
  }

  return { widthIn, shortened, inLines };
})();
