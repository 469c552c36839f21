import { expect } from "chai";
import { STATUSES } from "../../oracle/chain/statuses";
import { outlookOf, type ChallengeFacts } from "../../tasks/dispute/outlook";
import { Money } from "../../tasks/support";

const NOW = 1_800_000_000;
const DAY = 86_400;
const FEE = 10n ** 17n;

const factsWith = (changes: Partial<ChallengeFacts> = {}): ChallengeFacts => ({
  id: 7n,
  status: "Open",
  now: NOW,
  deadline: NOW + DAY,
  bond: 5_000_000n,
  isReported: false,
  isOfReceipt: false,
  isProvable: false,
  lacksRequests: false,
  hasArbitrator: true,
  fee: FEE,
  appeal: null,
  ...changes,
});
const outlook = (changes: Partial<ChallengeFacts> = {}) => outlookOf(factsWith(changes), new Money("USD", 6));

describe("the outlook of a challenge", () => {
  const evidence = "dispute:evidence --challenge 7 --uri …";
  const DECIDED = ["Upheld", "Rejected", "Undecided"] as const;

  it("has the operator answer an open one, or lose the charge and no stake", () => {
    const { operator, challenger, otherwise } = outlook();
    expect(operator[0]).to.match(
      /^dispute:answer --challenge 7 --data …: unless that is escalated, the charge is released/,
    );
    expect(challenger).to.deep.equal([evidence]);
    expect(otherwise).to.match(
      /^after 2027-01-16T.*, by dispute:close, the charge is refunded and the bond goes back$/,
    );
  });

  it("tells of stake where a receipt is doubted, and of a proof where nothing else answers", () => {
    expect(outlook({ isOfReceipt: true }).otherwise).to.match(/with as much of the operator's stake \(5\.0 USD/);
    expect(outlook({ isOfReceipt: true, isProvable: true }).operator[0]).to.match(/^dispute:prove --challenge 7/);
  });

  it("has requests shown first where that is demanded", () => {
    expect(outlook({ lacksRequests: true }).operator[0]).to.match(/^dispute:show-requests .*, and then dispute:answer/);
  });

  it("has the challenger escalate an answer, if there is an arbitrator, for what it asks", () => {
    expect(outlook({ status: "Answered" }).challenger[0]).to.match(
      /^dispute:escalate --challenge 7, for a fee of 0\.1 ether/,
    );
    expect(outlook({ status: "Answered", fee: null }).challenger[0]).to.match(/for a fee of what the arbitrator asks$/);
    expect(outlook({ status: "Answered", hasArbitrator: false }).challenger).to.deep.equal([evidence]);
    expect(outlook({ status: "Answered" }).otherwise).to.match(
      /the charge is released, and the bond of 5\.0 USD .* is the operator's$/,
    );
  });

  it("has the operator pay for an escalated one, or lose stake and the challenger's fee", () => {
    const { operator, otherwise } = outlook({ status: "Escalated" });
    expect(operator[0]).to.match(/^dispute:pay-fee --challenge 7, for a fee of 0\.1 ether/);
    expect(otherwise).to.match(/operator's stake \(5\.0 USD .*\) and the challenger's fee$/);
  });

  it("has anybody close what nobody did anything about in time, and what was reported at any time", () => {
    for (const status of ["Open", "Answered", "Escalated", "Disputed"] as const) {
      const late = outlook({ status, now: NOW + DAY + 1 });
      expect([late.challenger, late.operator]).to.deep.equal([[], []]);
      expect(late.anybody[0]).to.match(/^dispute:close --challenge 7: /);
      expect(outlook({ status, now: NOW + DAY }).anybody).to.deep.equal([]);
      expect(outlook({ status, isReported: true }).anybody[0]).to.match(
        /the charge is refunded and the bond goes back/,
      );
    }
    expect(outlook({ status: "Disputed", now: NOW + DAY + 1 }).anybody[0]).to.match(/nobody wins: .* fees are halved$/);
  });

  it("has nothing but money to fetch for what is decided", () => {
    for (const status of DECIDED) {
      const { challenger, operator, anybody, otherwise } = outlook({ status });
      expect([challenger, operator, otherwise]).to.deep.equal([[], [], "nothing: it is decided"]);
      expect(anybody).to.deep.equal(["dispute:withdraw sends either side what it got"]);
    }
  });

  it("knows every state", () => {
    for (const status of STATUSES.ChallengeStatus.filter(
      (one) => one !== "None" && !DECIDED.some((it) => it === one),
    )) {
      expect(outlook({ status }).otherwise, status).to.match(/by dispute:close, /);
    }
  });

  describe("before an arbitrator", () => {
    const [NOBODY, CHALLENGER, OPERATOR] = [0, 1, 2];
    const disputed = (ruling: number, appellant: number, now: number) =>
      outlook({
        ...{ status: "Disputed", now, deadline: NOW + 60 * DAY },
        appeal: { start: NOW, end: NOW + 2 * DAY, cost: FEE, ruling, appellant },
      });
    const appeals = (ruling: number, appellant: number, now: number) => {
      const { challenger, operator } = disputed(ruling, appellant, now);
      const mayAppeal = (steps: string[]) => steps[0].startsWith("dispute:appeal --challenge 7 --side ");
      return { challenger: mayAppeal(challenger), operator: mayAppeal(operator) };
    };

    it("lets who is losing appeal in the first half of the time, and who isn't until its end", () => {
      expect(appeals(OPERATOR, NOBODY, NOW)).to.deep.equal({ challenger: true, operator: true });
      expect(appeals(OPERATOR, NOBODY, NOW + DAY)).to.deep.equal({ challenger: false, operator: true });
      expect(appeals(CHALLENGER, NOBODY, NOW + DAY)).to.deep.equal({ challenger: true, operator: false });
      expect(appeals(CHALLENGER, NOBODY, NOW + 2 * DAY)).to.deep.equal({ challenger: false, operator: false });
      expect(appeals(OPERATOR, NOBODY, NOW - 1)).to.deep.equal({ challenger: false, operator: false });
    });

    it("leaves the other side time to follow, where nobody is losing", () => {
      expect(appeals(NOBODY, NOBODY, NOW + DAY)).to.deep.equal({ challenger: false, operator: false });
      expect(appeals(NOBODY, CHALLENGER, NOW + DAY)).to.deep.equal({ challenger: false, operator: true });
    });

    it("says what stands, and what an appeal does", () => {
      const { challenger, otherwise } = disputed(OPERATOR, NOBODY, NOW);
      expect(challenger[0]).to.match(
        /--side challenger, for 0\.1 ether .*, before 2027-01-16T.*: it wins unless the other side/,
      );
      expect(otherwise).to.match(
        /^the arbitrator's ruling for the operator stands unless it is appealed; if it never rules, after/,
      );
      expect(disputed(OPERATOR, CHALLENGER, NOW).operator[0]).to.match(/: the arbitrator rules again$/);
      expect(outlook({ status: "Disputed" }).otherwise).to.match(/^the arbitrator rules; if it never rules, after/);
    });
  });
});
