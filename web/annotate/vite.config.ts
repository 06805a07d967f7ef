import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

// SHA-256 of all sources in the order of their paths; test/annotate/test_page.py computes the same.
function digest(root: string): string {
  const files = ["index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"].map((name) => join(root, name));
  const walk = (folder: string): void => {
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      if (statSync(path).isDirectory()) walk(path);
      else files.push(path);
    }
  };
  walk(join(root, "src"));
  const hash = createHash("sha256");
  for (const [name, path] of files.map((path) => [relative(root, path), path] as const).sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(`${name}\0`).update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}

const stamp: Plugin = {
  name: "stamp",
  generateBundle() {
    this.emitFile({ type: "asset", fileName: "sources.sha256", source: `${digest(import.meta.dirname)}\n` });
  },
};

export default defineConfig({
  plugins: [react(), stamp],
  base: "./",
  build: {
    outDir: "../../src/stvla_ros/annotate/page",
    emptyOutDir: true,
    chunkSizeWarningLimit: 2000,
    license: { fileName: "LICENSES.md" },
    rollupOptions: { output: { entryFileNames: "app.js", chunkFileNames: "[name].js", assetFileNames: "app.[ext]" } },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8090" } },
});
