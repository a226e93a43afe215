// A real Better Auth server for one test. Users sign up with an email address and a password. Users and sessions are
// kept in memory.
//
//   node server.js [--prefix NAME] [--secure] [--cookie-cache] [--large] [--expires-in SECONDS] [--limit COUNT]
//
// It prints `ready http://127.0.0.1:PORT` and serves until SIGTERM. All other output goes to stderr, because the test
// reads stdout only until that line.
//
//   POST /control/fault  {"mode": "none" | "error" | "garbage" | "hang" | "slow", "seconds"}
//                        sets how get-session answers from now on
//   GET  /control/asked  {"count"}: the number of requests for get-session, with any answer

import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";

const BASE_PATH = "/api/better-auth";

// The data of a user with --large. A cookie holds about 4 KB, so `session_data` becomes several.
const BIOGRAPHY = "x".repeat(5500);

const { values: options } = parseArgs({
  options: {
    prefix: { type: "string" },
    secure: { type: "boolean", default: false },
    "cookie-cache": { type: "boolean", default: false },
    large: { type: "boolean", default: false },
    "expires-in": { type: "string" },
    // The greatest number of requests for sessions from one address in 10 s; by default there is no limit.
    limit: { type: "string" },
  },
});

let fault = { mode: "none" };
let asked = 0;

function authAt(origin) {
  return toNodeHandler(
    betterAuth({
      baseURL: origin,
      basePath: BASE_PATH,
      secret: "a secret of the tests, which guards nothing",
      database: memoryAdapter({ user: [], session: [], account: [], verification: [] }),
      emailAndPassword: { enabled: true },
      user: options.large
        ? { additionalFields: { biography: { type: "string", input: false, defaultValue: BIOGRAPHY } } }
        : {},
      session: {
        cookieCache: { enabled: options["cookie-cache"], maxAge: 300 },
        ...(options["expires-in"] && { expiresIn: Number(options["expires-in"]) }),
      },
      advanced: {
        useSecureCookies: options.secure,
        ...(options.prefix && { cookiePrefix: options.prefix }),
      },
      rateLimit: options.limit
        ? { enabled: true, customRules: { "/sign-up/email": false, "/get-session": { window: 10, max: Number(options.limit) } } }
        : { enabled: false },
      telemetry: { enabled: false },
      logger: { log: (level, message, ...more) => console.error(level, message, ...more) },
    }),
  );
}

function answer(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

async function control(request, response, path) {
  const route = `${request.method} ${path}`;
  if (route === "POST /control/fault") {
    fault = JSON.parse(await text(request));
    answer(response, 200, fault);
  } else if (route === "GET /control/asked") {
    answer(response, 200, { count: asked });
  } else {
    answer(response, 404, { message: `there is no ${route}` });
  }
}

async function getSession(request, response, auth) {
  asked += 1;
  switch (fault.mode) {
    case "error":
      return answer(response, 500, { message: "a fault that a test wants" });
    case "garbage":
      return response.writeHead(200, { "content-type": "text/html" }).end("<html>a fault that a test wants");
    case "hang":
      return;
    case "slow":
      await sleep(fault.seconds * 1000);
  }
  return auth(request, response);
}

async function serve(request, response, auth) {
  const path = request.url.split("?", 1)[0];
  if (path.startsWith("/control/")) {
    await control(request, response, path);
  } else if (path === `${BASE_PATH}/get-session`) {
    await getSession(request, response, auth);
  } else {
    await auth(request, response);
  }
}

process.on("SIGTERM", () => process.exit(0));

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  const auth = authAt(origin);
  server.on("request", (request, response) => {
    serve(request, response, auth).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  console.log(`ready ${origin}`);
});
