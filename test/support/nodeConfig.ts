import path from "node:path";
import config from "../../hardhat.config";

/** The project's configuration with one more network, a test's own node, whose address book and journals are in a folder of its own. */
const { LICET_TEST_NODE: url, LICET_TEST_FOLDER: folder } = process.env;
const root = path.join(__dirname, "../..");

export default {
  ...config,
  networks: { ...config.networks, ...(url ? { node: { url } } : {}) },
  paths: {
    root: folder,
    sources: path.join(root, "contracts"),
    artifacts: path.join(root, "artifacts"),
    cache: path.join(root, "cache"),
    tests: path.join(root, "test"),
    ignition: folder,
  },
};
