// What the parts of the page share: requests, elements, numbers, lines for the user.

/** An error whose message is for the user. */
export class Problem extends Error {}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer: was synthvlm view stopped?");
  }
  if (response.ok) return response;
  let message = `The server answers ${response.status}.`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // no JSON: the status has to do
  }
  throw new Problem(message);
}

export async function get(path, query = new URLSearchParams(), signal = undefined) {
  return (await answer(`${path}?${query}`, { signal })).json();
}

export async function getBytes(path, query, signal) {
  return (await answer(`${path}?${query}`, { signal })).arrayBuffer();
}

export async function post(path, body) {
  const isBlob = body instanceof Blob;
  const headers = { "Content-Type": isBlob ? body.type || "application/octet-stream" : "application/json" };
  return (await answer(path, { method: "POST", headers, body: isBlob ? body : JSON.stringify(body) })).json();
}

/** Makes an element. Texts become text nodes, so nothing in the data is ever read as HTML. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function drawing(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const whole = new Intl.NumberFormat("en");

/** A number for people: whole ones with commas, others with four digits. */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return whole.format(value);
  return String(Number(value.toPrecision(4)));
}

const problemLine = document.getElementById("problem");

/** Runs some work; a problem becomes a line on the page until the next work succeeds. */
export async function attempt(work) {
  try {
    const result = await work();
    problemLine.hidden = true;
    return result;
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (!(error instanceof Problem)) throw error;
    problemLine.textContent = error.message;
    problemLine.hidden = false;
    return undefined;
  }
}

const toast = document.getElementById("said");
let toastTimer;

/** Says something for a few seconds. */
export function say(text) {
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.hidden = true), 5000);
}

/** Small pictures are shown as they are, not smoothed. */
export function pixelate(image) {
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 128));
  return image;
}
