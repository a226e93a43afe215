// A small Better Auth server: users sign up with an email address and a password, and are kept in SQLite. Replace it by
// your own if you have one.

import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";

const { SITE, DATABASE = "auth.db", PORT = "3000" } = process.env;
if (!SITE || !process.env.BETTER_AUTH_SECRET) {
  console.error("SITE and BETTER_AUTH_SECRET must be set");
  process.exit(1);
}

const options = {
  baseURL: SITE,
  basePath: "/api/better-auth",
  database: new DatabaseSync(DATABASE),
  emailAndPassword: { enabled: true },
  advanced: { ipAddress: { ipAddressHeaders: ["x-forwarded-for"] } },
  // The app asks for the session of each browser about every 45 s. A session cannot be guessed.
  rateLimit: { customRules: { "/get-session": false } },
  telemetry: { enabled: false },
};

const { runMigrations } = await getMigrations(options);
await runMigrations();

const server = createServer(toNodeHandler(betterAuth(options)));
server.listen(Number(PORT), () => console.log(`ready ${server.address().port}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => server.close(() => process.exit(0)));
}
