import { expect } from "chai";
import { ZeroAddress, id } from "ethers";
import { grantDigest, receiptDigest, signDigest, signedReceiptHash } from "../../oracle/protocol/messages";
import { usageOf } from "../../oracle/protocol/meters";
import type { Receipt } from "../../oracle/protocol/types";
import { contradictedBy, isDead, metersAbove, outsideOf, repeatedIn } from "../../tasks/report/breaches";
import type { PlacedReceipt } from "../../tasks/report/placed";
import { DOMAIN, grantWith, receiptWith, usage } from "../support/fakeMessages";

const KEY = id("a key");

const place = (receipt: Receipt, index = 0): PlacedReceipt => {
  const hash = receiptDigest(DOMAIN, receipt);
  const signature = signDigest(KEY, hash);
  const leaf = {
    signedReceiptHash: signedReceiptHash(hash, signature),
    licenseId: receipt.licenseId,
    usage: usageOf(receipt),
  };
  return { receipt, signature, requestSignature: null, hash, leaf, index };
};

describe("a breach that a batch's receipts show", () => {
  const one = receiptWith({ requestSignatureHash: id("request's signature") });
  const unlike: Partial<Receipt> = { sequence: 2n, requestId: id("another"), requestSignatureHash: id("another's") };

  describe("by two receipts for one thing", () => {
    const found = (changes: Partial<Receipt>, inBatch = one) => {
      const receipt = { ...one, ...unlike, ...changes };
      return contradictedBy(DOMAIN, [place(inBatch)], { receipt, signature: "0x" }) !== undefined;
    };

    it("is that they have a sequence, a request or a request's signature in common", () => {
      expect(found({ sequence: one.sequence })).to.equal(true);
      expect(found({ requestId: one.requestId })).to.equal(true);
      expect(found({ requestSignatureHash: one.requestSignatureHash })).to.equal(true);
      expect(found({})).to.equal(false);
    });

    it("isn't that both requests lack a signature", () => {
      const requestSignatureHash = receiptWith().requestSignatureHash;
      expect(found({ requestSignatureHash }, receiptWith())).to.equal(false);
    });

    it("is of one license and one operator, and of two receipts", () => {
      expect(found({ sequence: one.sequence, licenseId: 9n })).to.equal(false);
      expect(found({ sequence: one.sequence, operatorId: 9 })).to.equal(false);
      expect(contradictedBy(DOMAIN, [place(one)], { receipt: one, signature: "0x" })).to.equal(undefined);
    });
  });

  describe("by a receipt that its grant doesn't cover", () => {
    const grant = grantWith({ notBefore: 1_000, expiresAt: 2_000, generation: 1, licenseId: 1n });
    const isOutside = (changes: Partial<Receipt>, of = grant) => {
      const grantHash = grantDigest(DOMAIN, of);
      const receipt = receiptWith({
        grantHash,
        finishedAt: 1_500,
        generation: 1,
        licenseId: 1n,
        requests: 1n,
        ...changes,
      });
      return outsideOf(DOMAIN, [place(receipt)], of).outside !== undefined;
    };

    it("is another license or generation, a time that isn't its own, or a signature that its key owes", () => {
      expect(isOutside({})).to.equal(false);
      expect(isOutside({ licenseId: 2n })).to.equal(true);
      expect(isOutside({ generation: 2 })).to.equal(true);
      expect([999, 1_000, 2_000, 2_001].map((finishedAt) => isOutside({ finishedAt }))).to.deep.equal([
        true,
        false,
        false,
        true,
      ]);
      const keyed = { ...grant, key: "0x7777777777777777777777777777777777777777" };
      expect(isOutside({}, keyed)).to.equal(true);
      expect(isOutside({ requestSignatureHash: id("signature") }, keyed)).to.equal(false);
      expect(grant.key).to.equal(ZeroAddress);
    });

    it("isn't the late end of what came to nothing", () => {
      const nothing = usage({});
      expect(isOutside({ finishedAt: 2_001, ...nothing })).to.equal(false);
      expect(isOutside({ finishedAt: 999, ...nothing })).to.equal(true);
    });

    it("is looked for among those that came under it alone", () => {
      const others = place(receiptWith({ generation: 7 }));
      expect(outsideOf(DOMAIN, [others], grant)).to.deep.equal({ under: [], outside: undefined });
    });
  });

  describe("by a receipt in two places", () => {
    it("is one with one signature in two batches, or twice in one", () => {
      const [here, there] = [place(one, 3), place(one, 5)];
      expect(repeatedIn([here], [there], false)).to.deep.equal({ here, there });
      expect(repeatedIn([here], [here], false)).to.deep.equal({ here, there: here });
      expect(repeatedIn([here], [here], true)).to.equal(undefined);
      expect(repeatedIn([here, there], [here, there], true)).to.deep.equal({ here, there });
      expect(repeatedIn([here], [place({ ...one, ttftMs: 1 }, 5)], false)).to.equal(undefined);
    });
  });

  describe("by a key", () => {
    it("is that it signed before it was added, from its expiry on, or from its revocation on", () => {
      const key = { addedAt: 100, expiresAt: 200, revokedAt: 0 };
      expect([99, 100, 199, 200].map((at) => isDead(key, at))).to.deep.equal([true, false, false, true]);
      expect([149, 150].map((at) => isDead({ ...key, revokedAt: 150 }, at))).to.deep.equal([false, true]);
    });

    it("isn't that it never was the operator's", () => {
      expect(isDead({ addedAt: 0, expiresAt: 0, revokedAt: 0 }, 100)).to.equal(false);
    });
  });

  describe("by an entry", () => {
    it("is each meter of which it has more than its receipts", () => {
      const placed = [1n, 2n].map((sequence) =>
        place(receiptWith({ sequence, ...usage({ requests: 1n, inputTokens: 5n }) })),
      );
      expect(metersAbove(usage({ requests: 2n, inputTokens: 10n }), placed)).to.deep.equal([]);
      expect(metersAbove(usage({ requests: 1n, inputTokens: 11n, computeMs: 1n }), placed)).to.deep.equal([
        "inputTokens 11 against 10",
        "computeMs 1 against 0",
      ]);
      expect(metersAbove(usage({ requests: 1n }), [])).to.deep.equal(["requests 1 against 0"]);
    });
  });
});
