import { task, types } from "hardhat/config";
import { writeAddressBook } from "../deploy/addressBook";
import { DEFAULT_PARAMETERS, deployLicet, type DeploymentParameters } from "../deploy/deploy";
import { parsePeriod, report, UserError } from "./support";

interface DeployArgs {
  currency?: string;
  treasury?: string;
  governor?: string;
  guardian?: string;
  attestors: string;
  threshold: number;
  epoch: string;
  window: string;
  json: boolean;
}

task("deploy", "Deploys a market: contracts, roles, a committee; on a local chain a test currency, too")
  .addOptionalParam("currency", "Address of the market's ERC-20; none makes a test currency on a local chain")
  .addOptionalParam("treasury", "Who is paid the protocol fee (default: the deployer)")
  .addOptionalParam("governor", "Who sets fee and ceiling, after a delay (default: the deployer)")
  .addOptionalParam("guardian", "Who may pause purchases and deposits (default: the deployer)")
  .addParam("attestors", "Addresses of the committee's members, with commas between them")
  .addOptionalParam("threshold", "How many of them must sign: more than half", 2, types.int)
  .addOptionalParam("epoch", "The longest epoch", "1d")
  .addOptionalParam("window", "How long after an epoch its batch may settle", "2d")
  .addFlag("json", "Print JSON")
  .setAction(async (args: DeployArgs, hre) =>
    report(args.json, async () => {
      const [deployer] = await hre.ethers.getSigners();
      if (deployer === undefined) {
        throw new UserError(`Network ${hre.network.name} has no account to deploy with: set LICET_PRIVATE_KEY.`);
      }
      const book = await deployLicet(hre, parametersOf(args, deployer.address));
      const file = writeAddressBook(hre.config.paths.root, hre.network.name, book);
      return { ...book.contracts, currency: book.currency, "address book": file };
    }),
  );

function parametersOf(args: DeployArgs, deployer: string): DeploymentParameters {
  const windowPeriod = parsePeriod(args.window, "--window");
  return {
    ...DEFAULT_PARAMETERS,
    currency: args.currency,
    treasury: args.treasury ?? deployer,
    governor: args.governor ?? deployer,
    guardian: args.guardian ?? deployer,
    epochPeriod: parsePeriod(args.epoch, "--epoch"),
    windowPeriod,
    stakeThawPeriod: 30 * 86_400 + windowPeriod,
    committee: {
      members: args.attestors.split(",").map((address) => ({ signer: address.trim(), payee: address.trim() })),
      threshold: args.threshold,
    },
  };
}
