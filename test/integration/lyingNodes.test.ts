/** What a node says of charges and challenges isn't believed where others contradict it. */
import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { toBeHex } from "ethers";
import hre from "hardhat";
import { connectCourt } from "../../oracle/chain/ethersCourt";
import { connectEscrow } from "../../oracle/chain/ethersEscrow";
import { openNodes, witnessOf } from "../../oracle/chain/nodes";
import { AnsweringBench } from "../support/answering";
import { deployCourtMarket } from "../support/court";
import { lyingAbout, RpcProxy } from "../support/rpcProxy";

const CHAIN = 31337n;
const NO = toBeHex(0, 32);
const YES = toBeHex(1, 32);

describe("an operator with three nodes, of which two must agree", () => {
  let proxies: RpcProxy[];
  let bench: AnsweringBench;

  beforeEach(async () => {
    const rpc = (method: string, params: unknown[]) => hre.network.provider.request({ method, params });
    proxies = await Promise.all([1, 2, 3].map(() => RpcProxy.start(rpc)));
  });

  afterEach(async () => {
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await bench.store.close();
  });

  async function connected() {
    const market = await loadFixture(deployCourtMarket);
    bench = await AnsweringBench.start(market);
    const batch = await bench.settle(market.licenseId, [{}]);
    const challengeId = await bench.challenge(batch, market.licenseId);
    const { chargeId } = await market.licet.court.challengeOf(challengeId);
    const provider = await openNodes({ urls: proxies.map(({ url }) => url), quorum: 2 }, CHAIN);
    const witness = witnessOf(provider);
    const { escrow, court } = market.licet;
    return {
      ...{ batchId: batch.batchId, chargeId, operatorId: market.operatorId },
      escrow: connectEscrow(provider, witness, { escrow: await escrow.getAddress(), fromBlock: 0, finality: 1 }),
      court: await connectCourt(provider, witness, { court: await court.getAddress(), finality: 1 }),
    };
  }

  it("sees what was split off a batch, which one of them hides", async () => {
    const { escrow, batchId, chargeId } = await connected();
    proxies[0].fault = lyingAbout({ eth_getLogs: () => [] });
    expect(await escrow.chargesOf(batchId)).to.deep.equal([chargeId]);
  });

  it("takes no charge for reported, and no account for the operator's, since one of them says so", async () => {
    const { court, chargeId, operatorId } = await connected();
    proxies[0].fault = lyingAbout({ eth_call: (_params, truth) => (truth === NO ? YES : truth) });
    expect(await court.isReported(chargeId)).to.equal(false);
    const stranger = bench.market.outsider.address;
    expect(await court.mayAnswer(operatorId, stranger, 2_000_000_000)).to.equal(false);
  });

  it("believes neither where two contradict each other, and the third is silent", async () => {
    const { court, chargeId } = await connected();
    proxies[0].fault = lyingAbout({ eth_call: (_params, truth) => (truth === NO ? YES : truth) });
    proxies[2].fault = () => Promise.reject(new Error("too many requests"));
    await expect(court.isReported(chargeId)).to.be.rejectedWith("2 nodes must agree on eth_call");
  });
});
