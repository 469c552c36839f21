/** A market on Hardhat's chain with a license on the voucher road, and a gateway that serves it. */
import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { hexlify, id, randomBytes, Wallet, ZeroAddress } from "ethers";
import hre from "hardhat";
import OpenAI from "openai";
import type { Chain } from "../../oracle/chain/chain";
import { connectChain } from "../../oracle/chain/ethersChain";
import { connectVoucherChain, type VoucherChain } from "../../oracle/chain/voucherChain";
import { GATEWAY_DEFAULTS, startGateway, type Gateway, type GatewayConfig } from "../../oracle/gateway/gateway";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { encodeBearer, GRANT_TYPES, saltOf } from "../../oracle/protocol/messages";
import { ecdsaKeyBytes, packVouchers, signVoucher, type Voucher } from "../../oracle/protocol/vouchers";
import { Store } from "../../oracle/store/store";
import { type Place, sqlitePlace } from "./databases";
import { FakeUpstream } from "./fakeUpstream";
import { addPlan, buyLicense, DAY, deployMarket, settle, usd, WAIT, worth, type Market } from "./market";

/** The operator's, for receipts. */
export const RECEIPT_KEY = new Wallet(id("operator's key"));
/** Registered for the license, with a cap. */
export const VOUCHER_KEY = new Wallet(id("voucher key"));
export const KEY_CAP = usd(2);
export const FUNDS = usd(5);
/** What the gateway of the tests lets a license owe: a few requests. */
export const CREDIT = 3_000n;
export const TERM = 30 * DAY;
export const LICENSE = 1n;

async function deployVoucherMarket(): Promise<Market> {
  const market = await deployMarket();
  const { escrow, operators } = market.licet;
  await operators.connect(market.operator).addKey(1, RECEIPT_KEY.address, (await time.latest()) + 365 * DAY);
  await buyLicense(market, FUNDS);
  await bringToVouchers(market, LICENSE);
  await escrow.connect(market.licensee).addVoucherKey(LICENSE, ecdsaKeyBytes(VOUCHER_KEY.address), KEY_CAP);
  return market;
}

/** Has a license's owner change it to the voucher road, and the wait pass. */
export async function bringToVouchers({ licet: { escrow }, licensee }: Market, licenseId: bigint): Promise<void> {
  const { operatorId } = await escrow.accountOf(licenseId);
  await escrow.connect(licensee).changeService(licenseId, operatorId, true);
  await time.increase(WAIT + 1);
  await escrow.applyServiceChange(licenseId);
}

export class VoucherMarket {
  readonly logged: string[] = [];
  private readonly gateways: Gateway[] = [];
  gateway!: Gateway;

  private constructor(
    readonly market: Market,
    readonly chain: Chain,
    readonly vouchers: VoucherChain,
    readonly upstream: FakeUpstream,
    private readonly place: Place,
    public store: Store,
  ) {}

  static async open(changes: Partial<GatewayConfig> = {}, place = sqlitePlace()): Promise<VoucherMarket> {
    const market = await loadFixture(deployVoucherMarket);
    const where = { escrow: await market.licet.escrow.getAddress(), fromBlock: 0 };
    const chain = await connectChain(hre.ethers.provider, { ...where, clock: "chain" });
    const vouchers = await connectVoucherChain(hre.ethers.provider, where);
    const store = new Store(await place.open());
    const world = new VoucherMarket(market, chain, vouchers, await FakeUpstream.start(), place, store);
    await world.start(changes);
    return world;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.upstream.stop();
    await this.store.close();
    this.place.remove();
  }

  async stop(): Promise<void> {
    await Promise.all(this.gateways.splice(0).map((gateway) => gateway.close()));
  }

  async start(changes: Partial<GatewayConfig> = {}): Promise<void> {
    const { market, chain, vouchers, store } = this;
    const { manifestHash } = (await chain.version(market.versionId))!;
    const config: GatewayConfig = {
      ...GATEWAY_DEFAULTS,
      port: 0,
      licenseCacheMs: 0,
      operatorId: market.operatorId,
      signer: localSigner(RECEIPT_KEY.privateKey),
      models: [
        {
          id: "writer",
          upstreams: [{ url: this.upstream.url }],
          assetId: market.assetId,
          versionId: market.versionId,
          manifestHash,
        },
      ],
      defaultMaxTokens: 100,
      templateTokens: 10,
      requestTimeoutMs: 10_000,
      voucherCredit: CREDIT,
      ...changes,
    };
    const log = createLog("debug", (line) => this.logged.push(line));
    this.gateway = await startGateway(config, { chain, store, log, vouchers });
    this.gateways.push(this.gateway);
  }

  /** What a crash and a new start do to the gateway and its store. */
  async restart(changes: Partial<GatewayConfig> = {}): Promise<void> {
    await this.stop();
    await this.store.close();
    this.store = new Store(await this.place.open());
    await this.start(changes);
  }

  /** An API key of a license, by its owner. */
  async apiKey(licenseId = LICENSE): Promise<string> {
    const secret = hexlify(randomBytes(32));
    const grant = {
      licenseId,
      key: ZeroAddress,
      cap: 0n,
      notBefore: 0,
      expiresAt: (await time.latest()) + 365 * DAY,
      generation: Number((await this.market.licet.escrow.accountOf(licenseId)).generation),
      salt: saltOf(secret),
    };
    const signature = await this.market.licensee.signTypedData(this.chain.domain, GRANT_TYPES, grant);
    return encodeBearer({ grant, signature }, secret);
  }

  client(apiKey: string, options: ConstructorParameters<typeof OpenAI>[0] = {}): OpenAI {
    return new OpenAI({ apiKey, baseURL: `${this.gateway.url}/v1`, maxRetries: 0, ...options });
  }

  /** A voucher for so much, packed as `voucher:sign` prints it. */
  async voucher(spent: bigint, fields: Partial<Voucher> = {}, key = VOUCHER_KEY): Promise<string> {
    const licenseId = fields.licenseId ?? LICENSE;
    const { generation, term } = await this.market.licet.escrow.accountOf(licenseId);
    const voucher = {
      licenseId,
      operatorId: this.market.operatorId,
      generation: Number(generation),
      term: Number(term),
      spent,
      ...fields,
    };
    return packVouchers([await signVoucher(this.chain.domain, voucher, key)]);
  }

  /** A batch, by the market's attestors, that charges a license so many whole units. @returns what its term then comes to */
  async settleByBatch(licenseId: bigint, dollars: number): Promise<{ spent: bigint }> {
    const { assets, escrow } = this.market.licet;
    // A lane that the gateway doesn't serve: it would miss the batch in its store.
    await assets
      .connect(this.market.publisher)
      .publish(1, id("manifest 2"), id("weights 2"), ZeroAddress, "ipfs://version-2", "");
    await settle(this.market, [worth(licenseId, dollars)], { versionId: (1n << 32n) | 2n });
    return escrow.accountOf(licenseId);
  }

  /** Another license of the licensee's on the voucher road, with money and the key, under a plan of its own. */
  async buyUnder(changes: Parameters<typeof addPlan>[1]): Promise<bigint> {
    return this.buy(await addPlan(this.market, changes));
  }

  /** The same under a plan that is there. */
  async buy(planId: number): Promise<bigint> {
    const licenseId = await buyLicense(this.market, FUNDS, { planId });
    await bringToVouchers(this.market, licenseId);
    const { escrow } = this.market.licet;
    await escrow.connect(this.market.licensee).addVoucherKey(licenseId, ecdsaKeyBytes(VOUCHER_KEY.address), KEY_CAP);
    return licenseId;
  }
}
