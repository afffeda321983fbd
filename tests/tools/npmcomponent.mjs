// An instance of a component written with @xmpp/component, as xmpp-share gets them.
//     npmcomponent.mjs FOLDER DOMAIN PORT SECRET NAME     FOLDER holds node_modules
import { createRequire } from "node:module";
const [folder, domain, port, secret, name] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { component, xml } = require("@xmpp/component");

const xmpp = component({ service: `xmpp://127.0.0.1:${port}`, domain, password: secret });
xmpp.on("error", (error) => console.error(String(error)));
xmpp.on("online", () => console.log("ready"));
xmpp.iqCallee.get("urn:x", "q", () => xml("by", { xmlns: "urn:x" }, name));
xmpp.iqCallee.get("urn:xmpp:ping", "ping", () => true);
xmpp.start();
