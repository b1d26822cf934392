// A certified OpenID provider with three people, one browser client and one service. Tells its port, serves until its
// input ends. Usage:
// node provider.mjs PORT KEY_ID REDIRECT_URI
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [port, kid, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const API = "https://bridge.example.com/api";
const PEOPLE = {
  ana: { name: "Ana Silva", email: "ana@example.com", groups: ["auditors", "everyone"] },
  bia: { name: "Bia Souza", email: "bia@example.com", groups: ["everyone"] },
};

function key(type, options, algorithm) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: "jwk" }), kid: `${kid}-${algorithm}`, alg: algorithm, use: "sig" };
}

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "bridge",
      client_secret: "a+secret/with:marks%25&signs",
      redirect_uris: [redirect],
      id_token_signed_response_alg: "ES256",
    },
    {
      client_id: "open",
      token_endpoint_auth_method: "none",
      redirect_uris: [redirect],
    },
    {
      client_id: "worker",
      client_secret: "worker secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  jwks: { keys: [key("rsa", { modulusLength: 2048 }, "RS256"), key("ec", { namedCurve: "P-256" }, "ES256")] },
  cookies: { keys: ["only for tests"] },
  claims: { openid: ["sub"], profile: ["name"], email: ["email"], groups: ["groups"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  async findAccount(_, id) {
    return PEOPLE[id] && { accountId: id, claims: async () => ({ sub: id, ...PEOPLE[id] }) };
  },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: "use",
        audience: resource,
        accessTokenTTL: 300,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  ttl: { AccessToken: 300, ClientCredentials: 300, Grant: 300, IdToken: 300, Interaction: 300, Session: 300 },
});

const server = provider.listen(Number(port), "127.0.0.1", () => console.log(JSON.stringify({ issuer, api: API })));
process.stdin.on("end", () => server.close(() => process.exit(0))).resume();
