// What a browser calls itself, as people call it.
const BROWSERS = [["Edg", "Edge"], ["OPR", "Opera"], ["Firefox", "Firefox"], ["Chrome", "Chrome"], ["Safari", "Safari"]];
const SYSTEMS = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"];

export function device(agent) {
  if (!agent) return "unknown";
  const browser = BROWSERS.find(([mark]) => agent.includes(`${mark}/`))?.[1];
  const system = SYSTEMS.find((name) => agent.includes(name));
  return browser ? `${browser}${system ? ` on ${system}` : ""}` : agent.slice(0, 60);
}
