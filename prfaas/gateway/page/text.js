"use strict";
// Elements and numbers. Text always goes in as text: names and reasons come from requests and files.

function el(tag, name, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
}

function svg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const NONE = "–";
const whole = new Intl.NumberFormat("en");

const count = (n) => whole.format(n);

function short(n) {
  if (n < 10000) return count(Math.round(n));
  return n < 1e6 ? `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}K` : `${(n / 1e6).toFixed(2)}M`;
}

function seconds(s) {
  if (s === null || s === undefined) return NONE;
  if (s === 0) return "0 s";
  if (s < 0.001) return `${(s * 1e6).toFixed(0)} µs`;
  if (s < 1) return `${(s * 1e3).toFixed(s < 0.01 ? 1 : 0)} ms`;
  return s < 100 ? `${s.toFixed(s < 10 ? 2 : 1)} s` : `${count(Math.round(s))} s`;
}

function bits(bytesPerS) {
  const s = bytesPerS * 8;
  if (s >= 1e9) return `${(s / 1e9).toFixed(s < 1e10 ? 2 : 1)} Gbit/s`;
  return s >= 1e6 ? `${(s / 1e6).toFixed(s < 1e7 ? 1 : 0)} Mbit/s` : `${(s / 1e3).toFixed(0)} kbit/s`;
}

const percent = (share) => (share === null || share === undefined ? NONE : `${Math.round(share * 100)} %`);

const clockFormat = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const clock = (unixS) => clockFormat.format(unixS * 1000);
