import { expect } from "chai";
import { Store } from "../../oracle/store/store";
import { StoreConflict } from "../../oracle/store/storeConflict";
import { CANCEL } from "../../oracle/store/transactionBooks";
import { describeOnEach, type Place } from "../support/databases";

const ACCOUNT = `0x${"a1".repeat(20)}`;

describeOnEach("the store of what an account sends", (place) => {
  let here: Place;
  let store: Store;

  beforeEach(async () => {
    here = place();
    store = new Store(await here.open());
  });
  afterEach(async () => {
    await store.close();
    here.remove();
  });

  const save = (nonce: number, purpose: string, attempt = 0) =>
    store.transactions.save({ account: ACCOUNT, nonce, attempt, purpose, raw: "0x", hash: `0x${nonce}${attempt}` });
  const conflict = async (attempt: Promise<void>) => {
    const cause = await attempt.then(
      () => null,
      (error: Error) => error,
    );
    expect(cause).to.be.instanceOf(StoreConflict);
    return cause!.message;
  };

  it("gives a purpose no second nonce while the first may still serve it, or has", async () => {
    await save(0, "buy");
    expect(await conflict(save(1, "buy"))).to.equal(`nonce 0 of ${ACCOUNT} is for "buy" already, and this is 1`);
    await save(0, "buy", 1);
    await store.transactions.endNonce(ACCOUNT, 0, { hash: "0x01", state: "confirmed", block: 5 });
    await conflict(save(1, "buy"));
    await save(1, "another");
  });

  it("gives it another where the first was reverted", async () => {
    await save(0, "buy");
    await store.transactions.endNonce(ACCOUNT, 0, { hash: "0x00", state: "reverted", block: 5 });
    await save(1, "buy");
    expect(await store.transactions.nonceFor(ACCOUNT, "buy")).to.equal(1);
  });

  it("tells how often a purpose cost gas in vain, and in which block last: a nonce counts once, and not if it was another's", async () => {
    const failures = () => store.transactions.failuresOf(ACCOUNT, "buy");
    expect(await failures()).to.deep.equal({ times: 0, block: null });
    await save(0, "buy");
    await save(0, "buy", 1);
    expect(await failures()).to.deep.equal({ times: 0, block: null });
    await store.transactions.endNonce(ACCOUNT, 0, { hash: "0x01", state: "reverted", block: 5 });
    expect(await failures()).to.deep.equal({ times: 1, block: 5 });
    await save(1, "buy");
    await save(1, CANCEL, 1);
    await store.transactions.endNonce(ACCOUNT, 1, { hash: "0x11", state: "confirmed", block: 9 });
    expect(await failures()).to.deep.equal({ times: 2, block: 9 });
    await save(2, "buy");
    await store.transactions.endNonce(ACCOUNT, 2, null);
    await save(3, "another");
    await store.transactions.endNonce(ACCOUNT, 3, { hash: "0x30", state: "reverted", block: 12 });
    expect(await failures()).to.deep.equal({ times: 2, block: 9 });
  });

  it("lets any number of nonces be used up", async () => {
    await save(0, CANCEL);
    await save(1, CANCEL);
  });
});
