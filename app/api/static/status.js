"use strict";
// The status page: asks /api/v1/status once a second with the visitor's key. Everything shown is set as text, never as HTML.

const EVERY_MS = 1000;
const at = (id) => document.getElementById(id);

function made(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function table(titles, rows) {
  if (!rows.length) return made("p", "nothing yet", "empty");
  const whole = made("table"), head = whole.createTHead().insertRow(), body = whole.createTBody();
  for (const title of titles) head.append(made("th", title));
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) {
      const [text, kind] = Array.isArray(cell) ? cell : [cell, typeof cell === "number" ? "n" : ""];
      row.append(made("td", text, kind));
    }
  }
  return whole;
}

const number = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString());
const percent = (x) => (x === null || x === undefined ? "–" : (100 * x).toFixed(1) + " %");
const time = (ms) => (ms === null || ms === undefined ? "–" : new Date(ms).toISOString().replace("T", " ").slice(0, 19));

function tiles(status) {
  const p = status.progress;
  const shown = [];
  if (p) {
    shown.push(["events/s", number(p.events_per_s)], ["events", number(p.events)]);
    for (const [role, lag] of Object.entries(p.lag)) shown.push([`lag ${role}`, number(lag)]);
  }
  const c = status.counts;
  shown.push(["detections", number(c.detections)], ["commands", number(c.commands)]);
  shown.push(["delivered", number(c["deliveries.delivered"] || 0)], ["dead letters", number(c.dead_letters)]);
  if (status.paused.length) shown.push(["paused", status.paused.join(", ")]);
  return shown.map(([name, value]) => {
    const tile = made("div", null, "tile");
    tile.append(made("b", value), made("span", name));
    return tile;
  });
}

function products(status) {
  if (!status.products.length) return [made("p", "no figures yet", "empty")];
  return status.products.flatMap((p) => {
    const title = made("h3", `${p.tenant} / ${p.product} · `);
    const health = p.health;
    const band = health ? health.band : "no_data";
    title.append(made("span", `${band.replace("_", " ")} ${health && health.score !== null ? health.score.toFixed(1) : ""}`, band));
    title.append(made("span", ` · watermark ${time(p.watermark)}`, "empty"));
    const rows = p.features.map((f) => [
      f.feature, [f.stage.replace("_", " ") + (f.viral ? " · viral" : ""), f.stage], [percent(f.adoption_rate), "n"],
      [number(f.users), "n"], [number(f.target_users), "n"], [percent(f.organic_share), "n"], [number(f.events), "n"],
    ]);
    return [title, table(["feature", "stage", "rate", "users", "target", "organic", "uses"], rows)];
  });
}

function show(status) {
  at("figures").replaceChildren(...tiles(status));
  at("products").replaceChildren(...products(status));
  at("detections").replaceChildren(table(["time", "tenant", "subject", "found"], status.detections.map((d) =>
    [time(d.at), d.tenant, d.subject, `${d.kind.replaceAll("_", " ")} ${d.stage || d.band || d.threshold || ""}`])));
  at("commands").replaceChildren(table(["time", "rule", "type", "subject", "why"], status.commands.map((c) =>
    [time(c.issued_at), c.rule, c.type, c.subject, c.why.reason])));
  at("deliveries").replaceChildren(table(["time", "type", "connection", "status", "attempt"], status.deliveries.map((r) =>
    [time(r.at), r.command_type, r.connection + (r.sandboxed ? " (sandbox)" : ""), [r.status, r.status], r.attempt])));
}

async function ask() {
  const key = sessionStorage.getItem("uptake-key");
  at("login").hidden = Boolean(key);
  document.querySelector("main").hidden = !key;
  if (!key) {
    at("state").textContent = "an API key is needed";
    return;
  }
  try {
    const answer = await fetch("/api/v1/status", { headers: { authorization: `Bearer ${key}` } });
    const body = await answer.json();
    if (answer.status === 401) sessionStorage.removeItem("uptake-key");
    if (!answer.ok) throw new Error(body.detail || answer.statusText);
    show(body);
    at("state").textContent = `live · ${time(Date.now())} UTC`;
  } catch (error) {
    at("state").textContent = error.message;
  }
}

async function loop() {
  await ask();
  setTimeout(loop, EVERY_MS);
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("uptake-key", at("key").value.trim());
  at("key").value = "";
  ask();
});

// `uptake up` prints a link with the key behind the #: that part never leaves the browser.
if (location.hash.startsWith("#key=")) {
  sessionStorage.setItem("uptake-key", decodeURIComponent(location.hash.slice(5)));
  history.replaceState(null, "", "/");
}
loop();
