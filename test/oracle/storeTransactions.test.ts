import { expect } from "chai";
import { CANCEL, Store, StoreConflict } from "../../oracle/store/store";
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
    store.saveTransaction({ account: ACCOUNT, nonce, attempt, purpose, raw: "0x", hash: `0x${nonce}${attempt}` });
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
    await store.endNonce(ACCOUNT, 0, { hash: "0x01", state: "confirmed", block: 5 });
    await conflict(save(1, "buy"));
    await save(1, "another");
  });

  it("gives it another where the first was reverted", async () => {
    await save(0, "buy");
    await store.endNonce(ACCOUNT, 0, { hash: "0x00", state: "reverted", block: 5 });
    await save(1, "buy");
    expect(await store.nonceFor(ACCOUNT, "buy")).to.equal(1);
  });

  it("lets any number of nonces be used up", async () => {
    await save(0, CANCEL);
    await save(1, CANCEL);
  });
});
