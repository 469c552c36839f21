import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { type TdxPolicy, type TdxProgram, trimmedTdxQuote, verifyTdxQuote } from "../../oracle/evidence/tdx";
import { certify, objectId, octets, revocationList, sequence } from "../support/der";
import {
  chainOf,
  fingerprintOf,
  NOW,
  pckOf,
  type PlatformParts,
  PPID,
  reasonAgainst,
  tdMeasurement,
  type TdParts,
  tdxMaker,
  tdxPolicy,
  tdxQuote,
} from "../support/evidence";

describe("the verifier of TDX quotes", () => {
  const reportData = randomBytes(64);
  const { root, platformCa, tcbSigner, pck, answers } = tdxMaker();
  const question = { reportData, at: NOW, answers };

  const verdictOn = (parts: Partial<TdParts> = {}, policy: Partial<TdxPolicy> = {}, asked = question) =>
    verifyTdxQuote(tdxQuote(reportData, parts), tdxPolicy(policy), asked);
  const refusal = async (parts: Partial<TdParts>, policy: Partial<TdxPolicy> = {}, asked = question) =>
    reasonAgainst(await verdictOn(parts, policy, asked), "fail");

  it("passes a genuine quote of versions 4 and 5, and says of which platform and program", async () => {
    for (const version of [4, 5]) {
      const { reason, claims } = await verdictOn({ version });
      expect(claims, reason).to.deep.equal({
        kind: "tdx",
        devices: [`intel-ppid:${PPID.toString("hex")}`],
        program: "gateway 1.0 on TDX",
        mrTd: tdMeasurement("firmware").toString("hex"),
        statuses: ["UpToDate", "UpToDate", "UpToDate"],
        advisories: [],
        revocationCovered: 2,
      });
    }
  });

  it("fails for every byte that a step of 11 meets changed", async () => {
    const evidence = tdxQuote(reportData);
    for (let index = 0; index < evidence.quote.length; index += 11) {
      const quote = Buffer.from(evidence.quote);
      quote[index] ^= 1 << (index % 8);
      expect((await verifyTdxQuote({ ...evidence, quote }, tdxPolicy(), question)).result, `byte ${index}`).to.equal(
        "fail",
      );
    }
  });

  it("fails when cut short, or with something behind it, and says how to cut padding off", async () => {
    const evidence = tdxQuote(reportData);
    for (let length = 0; length < evidence.quote.length; length += 61) {
      const verdict = await verifyTdxQuote(
        { ...evidence, quote: evidence.quote.subarray(0, length) },
        tdxPolicy(),
        question,
      );
      expect(reasonAgainst(verdict, "fail")).to.match(/cut short/);
    }
    for (const version of [4, 5]) {
      const { quote } = tdxQuote(reportData, { version });
      const padded = Buffer.concat([quote, Buffer.alloc(70)]);
      const verdict = await verifyTdxQuote({ ...evidence, quote: padded }, tdxPolicy(), question);
      expect(reasonAgainst(verdict, "fail")).to.match(/70 more follow/);
      expect(trimmedTdxQuote(padded)).to.deep.equal(quote);
      const hidden = Buffer.concat([quote, Buffer.from([0, 1])]);
      expect(trimmedTdxQuote(hidden)).to.deep.equal(hidden);
      for (const length of [0, 3, 60, 640, quote.length - 1]) {
        expect(trimmedTdxQuote(quote.subarray(0, length))).to.deep.equal(quote.subarray(0, length));
      }
    }
  });

  it("fails with another seed's report data, in its first half or its second", async () => {
    for (const index of [0, 63]) {
      const other = Buffer.from(reportData);
      other[index] ^= 1;
      expect(await refusal({}, {}, { ...question, reportData: other })).to.match(
        /this seed asks for .*Have the guest quote again/s,
      );
    }
  });

  describe("when a link from the root to the quote is missing", () => {
    it("fails under another root", async () => {
      expect(await refusal({}, { roots: ["ef".repeat(32)] })).to.match(/Test SGX Root CA .* isn't a trusted root/);
    });

    it("fails with a platform's key of another authority, and with one that is expired", async () => {
      const impostor = certify({ name: "Test PCK Platform CA", key: "P-256", ca: true });
      expect(await refusal({ pck: pckOf(impostor) })).to.match(/didn't sign Test PCK/);
      const expired = pckOf(platformCa, { certificate: { notAfter: NOW - 1 } });
      expect(await refusal({ pck: expired })).to.match(/Test PCK expired/);
    });

    it("fails where the chain is another platform's than the one that vouched for the enclave", async () => {
      expect(await refusal({ chain: chainOf(pckOf(platformCa), platformCa, root) })).to.match(
        /enclave's report isn't signed by Test PCK/,
      );
    });

    it("fails where the report was altered after the attestation key signed it", async () => {
      const evidence = tdxQuote(randomBytes(64));
      const quote = Buffer.from(evidence.quote);
      reportData.copy(quote, 48 + 520);
      expect(reasonAgainst(await verifyTdxQuote({ ...evidence, quote }, tdxPolicy(), question), "fail")).to.match(
        /isn't signed by the attestation key that comes with it/,
      );
    });

    it("fails where the enclave vouches for another key, or for more than the key", async () => {
      expect(await refusal({ enclave: { reportData: Buffer.alloc(64) } })).to.match(
        /vouches for another attestation key/,
      );
    });

    it("fails where the attestation key isn't on its curve", async () => {
      const shape = (signature: Buffer) => signature.fill(1, 64, 128);
      expect(await refusal({ shape })).to.match(/can't be read/);
    });

    it("fails with a certificate without Intel's extension in the platform's place", async () => {
      const plain = certify({ name: "Test PCK", key: "P-256" }, platformCa);
      expect(await refusal({ pck: plain })).to.match(/lacks Intel's extension/);
    });

    it("fails where Intel's extension has a field of another length, or twice", async () => {
      expect(await refusal({ pck: pckOf(platformCa, { ppid: Buffer.alloc(15) }) })).to.match(
        /a field of 15 bytes where 16 belong/,
      );
      expect(await refusal({ pck: pckOf(platformCa, { fmspc: "00" }) })).to.match(/a field of 1 bytes where 6 belong/);
      const twice = sequence(objectId("1.2.840.113741.1.13.1.4"), octets(Buffer.alloc(6)));
      expect(await refusal({ pck: pckOf(platformCa, { more: [twice] }) })).to.match(
        /the field 1\.2\.840\.113741\.1\.13\.1\.4 twice/,
      );
    });

    it("names a platform of several packages by its instance too", async () => {
      const instance = sequence(objectId("1.2.840.113741.1.13.1.6"), octets(Buffer.alloc(16, 7)));
      const { claims } = await verdictOn({ pck: pckOf(platformCa, { more: [instance] }) });
      expect(claims?.devices).to.deep.equal([
        `intel-ppid:${PPID.toString("hex")}`,
        `intel-platform:${"07".repeat(16)}`,
      ]);
    });

    it("fails where Intel revoked the platform or its authority", async () => {
      const lists = [revocationList(root), revocationList(platformCa, { revoked: [pck.serial] })];
      expect(await refusal({}, {}, { ...question, answers: { crls: lists, ocsp: [] } })).to.match(
        /has revoked Test PCK/,
      );
      const others = [revocationList(root, { revoked: [platformCa.serial] }), revocationList(platformCa)];
      expect(await refusal({}, {}, { ...question, answers: { crls: others, ocsp: [] } })).to.match(
        /has revoked Test PCK Platform CA/,
      );
    });

    it("fails where Intel revoked the signer of what it says", async () => {
      const lists = [revocationList(root, { revoked: [tcbSigner.serial] }), revocationList(platformCa)];
      expect(await refusal({}, {}, { ...question, answers: { crls: lists, ocsp: [] } })).to.match(
        /has revoked Intel SGX TCB Signing/,
      );
    });

    it("is unknown without the lists, with one of them, and with lists that anybody made", async () => {
      const forged = certify({ name: root.name, key: "P-256", ca: true });
      for (const crls of [
        [],
        [revocationList(root)],
        [revocationList(platformCa)],
        [revocationList(forged), revocationList(platformCa)],
      ]) {
        const verdict = await verdictOn({}, {}, { ...question, answers: { crls, ocsp: [] } });
        expect(reasonAgainst(verdict, "unknown")).to.match(/is open/);
      }
    });

    it("fails where the policy distrusts a certificate", async () => {
      expect(await refusal({}, { distrusted: [fingerprintOf(platformCa)] })).to.match(/aren't trusted any/);
    });
  });

  describe("when the guest isn't closed", () => {
    const guests: [what: string, parts: Partial<TdParts>, reason: RegExp][] = [
      ["that its host may debug", { tdAttributes: (1n << 28n) | 1n }, /may debug or profile.*bits 0 to 7/],
      ["that its host may profile", { tdAttributes: (1n << 28n) | (1n << 5n) }, /may debug or profile/],
      ["that may be moved", { tdAttributes: (1n << 28n) | (1n << 29n) }, /may be moved/],
      ["whose pages may be taken away", { tdAttributes: 0n }, /SEPT_VE_DISABLE/],
      [
        "with attributes that nobody knows",
        { tdAttributes: (1n << 28n) | (1n << 40n) },
        /attributes that this verifier doesn't know/,
      ],
      ["with a service TD", { version: 5, mrServiceTd: Buffer.alloc(48, 1) }, /service TD's measurement/],
    ];
    for (const [what, parts, reason] of guests) {
      it(`fails with one ${what}`, async () => {
        expect(await refusal(parts)).to.match(reason);
      });
    }

    it("passes with protection keys and performance counters", async () => {
      expect((await verdictOn({ tdAttributes: (1n << 28n) | (1n << 30n) | (1n << 63n) })).result).to.equal("pass");
    });
  });

  describe("when it is of another kind", () => {
    const kinds: [what: string, parts: Partial<TdParts>, reason: RegExp][] = [
      ["version 3", { version: 3 }, /version 3; versions 4 and 5/],
      ["a key of another type", { keyType: 3 }, /key of type 3/],
      ["an SGX enclave", { tee: 0 }, /TEE 0h; 81h/],
      ["another vendor's enclave", { vendor: Buffer.alloc(16, 1) }, /vendor 0101.*, which isn't Intel/],
      [
        "certification data of another type",
        { shape: (bytes) => bytes.fill(5, 128, 129) },
        /certification data of type 5/,
      ],
      ["certificates of another type", { shape: (bytes) => bytes.fill(4, 616, 617) }, /certificates of type 4/],
      ["a chain that isn't PEM", { chain: "nonsense" }, /isn't PEM as OpenSSL writes it/],
      ["a certification longer than the signature", { shape: (bytes) => bytes.subarray(0, -1) }, /cut short/],
      [
        "a signature longer than its certification",
        { shape: (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]) },
        /more follow/,
      ],
    ];
    for (const [what, parts, reason] of kinds) {
      it(`fails with ${what}`, async () => {
        expect(await refusal(parts)).to.match(reason);
      });
    }

    it("fails with a report of another type or length in version 5", async () => {
      const evidence = tdxQuote(reportData, { version: 5 });
      for (const [at, value] of [
        [48, 1],
        [48, 2],
        [50, 0x10],
      ]) {
        const quote = Buffer.from(evidence.quote);
        quote[at] = value;
        expect(reasonAgainst(await verifyTdxQuote({ ...evidence, quote }, tdxPolicy(), question), "fail")).to.match(
          /has a report of type/,
        );
      }
    });

    it("reads a chain that ends as C's texts do", async () => {
      const verdict = await verdictOn({ chain: `${chainOf(pck, platformCa, root)}\0` });
      expect(verdict.result, verdict.reason).to.equal("pass");
    });
  });

  describe("when its program isn't on the allow-list", () => {
    const other = Buffer.alloc(48, 1);
    const program = (changes: Partial<TdxProgram>): Partial<TdxPolicy> => ({
      programs: [{ ...tdxPolicy().programs[0], ...changes }],
    });

    it("fails with any measurement that isn't on it", async () => {
      expect(await refusal({ mrTd: other })).to.match(/its MRTD is 0101.*, and "gateway 1\.0 on TDX" allows/);
      for (const index of [0, 1, 2, 3]) {
        const rtMr = [0, 1, 2, 3].map((each) => (each === index ? other : tdMeasurement(`rtmr ${each}`)));
        expect(await refusal({ rtMr })).to.match(new RegExp(`its RTMR ${index} is 0101`));
      }
      expect(await refusal({ mrConfigId: other })).to.match(/its MRCONFIGID is 0101.* allows 0000/);
      expect(await refusal({ mrOwner: other })).to.match(/its MROWNER is 0101/);
      expect(await refusal({ mrOwnerConfig: other })).to.match(/its MROWNERCONFIG is 0101/);
    });

    it("passes with a configuration that it asks for, and fails where that is missing", async () => {
      const hex = other.toString("hex");
      const asked = program({ mrConfigId: hex, mrOwner: hex, mrOwnerConfig: hex });
      const verdict = await verdictOn({ mrConfigId: other, mrOwner: other, mrOwnerConfig: other }, asked);
      expect(verdict.result, verdict.reason).to.equal("pass");
      expect(await refusal({}, program({ mrConfigId: hex }))).to.match(/its MRCONFIGID is 0000/);
    });

    it("fails where the list has no value for a measurement, and is unknown where it is empty", async () => {
      expect(await refusal({}, program({ mrTd: [] }))).to.match(/allows none/);
      expect(reasonAgainst(await verdictOn({}, { programs: [] }), "unknown")).to.match(/allows no TDX program yet/);
    });
  });

  describe("when Intel says something of the platform", () => {
    const platform = (parts: Partial<PlatformParts>): Partial<TdParts> => ({ pck: pckOf(platformCa, parts) });
    const tcbInfo = (changes: object): Partial<TdParts> => ({
      collateral: { tcbInfo: (info) => ({ ...info, ...changes }) },
    });
    const qeIdentity = (changes: object): Partial<TdParts> => ({
      collateral: { qeIdentity: (identity) => ({ ...identity, ...changes }) },
    });

    it("is unknown where nobody sent it", async () => {
      expect(reasonAgainst(await verdictOn({ collateral: null }), "unknown")).to.match(
        /comes without what Intel says of its platform/,
      );
    });

    it("fails with a status that the policy doesn't accept, and passes where it does", async () => {
      const components = Array.from({ length: 16 }, () => 2);
      for (const parts of [
        platform({ components }),
        platform({ pceSvn: 5 }),
        { teeTcbSvn: [2, 1, 3] },
        { enclave: { isvSvn: 2 } },
      ]) {
        expect(await refusal(parts)).to.match(
          /Intel calls the .* "OutOfDate".*, and the policy accepts UpToDate\. Update it/,
        );
        const verdict = await verdictOn(parts, { statuses: ["UpToDate", "OutOfDate"] });
        expect(verdict.claims?.statuses, verdict.reason).to.contain("OutOfDate");
      }
      const { claims } = await verdictOn(platform({ components }), { statuses: ["UpToDate", "OutOfDate"] });
      expect(claims?.advisories).to.deep.equal(["INTEL-SA-00001"]);
    });

    it("fails where Intel knows no level so low, of platform, module or enclave", async () => {
      expect(await refusal(platform({ components: Array.from({ length: 16 }, () => 1) }))).to.match(
        /no level for this platform/,
      );
      expect(await refusal(platform({ pceSvn: 4 }))).to.match(/no level for this platform/);
      expect(await refusal({ teeTcbSvn: [6, 1, 1] })).to.match(/no level for this platform/);
      expect(await refusal({ teeTcbSvn: [1, 1, 3] })).to.match(
        /no level for the TDX module TDX_01's security version 1/,
      );
      expect(await refusal({ enclave: { isvSvn: 0 } })).to.match(
        /no level for the quoting enclave's security version 0/,
      );
    });

    it("compares the module's first bytes with the platform's levels where it is of TDX 1.0", async () => {
      expect((await verdictOn({ teeTcbSvn: [5, 0, 2] })).result).to.equal("pass");
      expect(await refusal({ teeTcbSvn: [4, 0, 2] })).to.match(/no level for this platform/);
    });

    it("fails with a module that isn't Intel's, or that Intel doesn't know", async () => {
      expect(await refusal({ mrSignerSeam: Buffer.alloc(48, 1) })).to.match(/TDX module is signed by 0101/);
      expect(await refusal({ seamAttributes: 1n })).to.match(/with attributes 0100/);
      expect(await refusal({ teeTcbSvn: [5, 0, 2], mrSignerSeam: Buffer.alloc(48, 1) })).to.match(
        /isn't Intel's module TDX_00/,
      );
      expect(await refusal({ teeTcbSvn: [6, 2, 3] })).to.match(/doesn't know the TDX module TDX_02/);
    });

    it("fails with a quoting enclave that isn't Intel's, or may be debugged", async () => {
      expect(await refusal({ enclave: { mrSigner: Buffer.alloc(32, 1) } })).to.match(/enclave is signed by 0101/);
      expect(await refusal({ enclave: { isvProdId: 3 } })).to.match(/as product 3; Intel's/);
      expect(
        await refusal({ enclave: { attributes: Buffer.from("1700000000000000e700000000000000", "hex") } }),
      ).to.match(/attributes 1700/);
      expect(await refusal({ enclave: { miscSelect: 1 } })).to.match(/selection 0100/);
      // Whatever Intel's masks say.
      const debuggable = {
        ...qeIdentity({ attributesMask: "00".repeat(16) }),
        enclave: { attributes: Buffer.alloc(16, 0xff) },
      };
      expect(await refusal(debuggable)).to.match(/attributes ffff/);
    });

    it("fails where it is of other platforms", async () => {
      expect(await refusal(platform({ fmspc: "00a06f000000" }))).to.match(
        /TCB info is of platforms b0c06f000000 .* this is one of 00a06f/,
      );
      expect(await refusal(platform({ pceId: "0001" }))).to.match(/PCE 0000\), and this is one of .*PCE 0001/);
    });

    it("fails where it isn't valid yet, has expired, or is of an older evaluation than the policy asks for", async () => {
      const day = (at: number) => new Date(at * 1_000).toISOString();
      for (const change of [{ issueDate: day(NOW + 1) }, { nextUpdate: day(NOW - 1) }]) {
        expect(await refusal(tcbInfo(change))).to.match(/Intel's TCB info is valid from .* Fetch it anew/);
        expect(await refusal(qeIdentity(change))).to.match(
          /identity of the quoting enclave is valid from .* Fetch it anew/,
        );
      }
      for (const parts of [tcbInfo({ tcbEvaluationDataNumber: 16 }), qeIdentity({ tcbEvaluationDataNumber: 16 })]) {
        expect(await refusal(parts)).to.match(/evaluation number 16, and the policy asks for 17/);
      }
      expect(await refusal({}, { minimumEvaluation: NaN })).to.match(/asks for NaN/);
    });

    it("fails where it is of another kind or version, or has a hole", async () => {
      expect(await refusal(tcbInfo({ id: "SGX" }))).to.match(/isn't of TDX, version 3/);
      expect(await refusal(tcbInfo({ version: 2 }))).to.match(/isn't of TDX, version 3/);
      expect(await refusal(tcbInfo({ tcbType: 1 }))).to.match(/is of type 1/);
      expect(await refusal(qeIdentity({ id: "QE" }))).to.match(/isn't of TDX's, version 2/);
      expect(await refusal(qeIdentity({ version: 3 }))).to.match(/isn't of TDX's, version 2/);
      expect(await refusal(tcbInfo({ fmspc: undefined }))).to.match(/has no fmspc/);
      expect(await refusal(tcbInfo({ tcbLevels: [] }))).to.match(/no level for this platform/);
      for (const item of [null, [], 5])
        expect(await refusal(tcbInfo({ tcbLevels: [item] }))).to.match(/tcbLevels\[0\] isn't an object/);
      for (const version of ["3", 3.5, -3])
        expect(await refusal(tcbInfo({ version }))).to.match(/version is .*, not a whole number/);
      expect(await refusal(tcbInfo({ id: 5 }))).to.match(/id is 5, not text/);
      expect(await refusal(tcbInfo({ issueDate: "2023-13-01T00:00:00Z" }))).to.match(/issueDate is no time/);
      expect(
        await refusal(qeIdentity({ tcbLevels: [{ tcb: { isvsvn: 1 }, tcbStatus: "UpToDate", advisoryIDs: [5] }] })),
      ).to.match(/has 5, not text/);
      expect(await refusal(tcbInfo({ tcbLevels: {} }))).to.match(/isn't a list/);
      expect(await refusal(tcbInfo({ nextUpdate: "soon" }))).to.match(/is no time/);
      expect(await refusal(qeIdentity({ mrsigner: "00" }))).to.match(/isn't 32 bytes of hex/);
      expect(await refusal(qeIdentity({ isvprodid: "2" }))).to.match(/not a whole number/);
    });

    it("fails where a level doesn't list all sixteen components", async () => {
      for (const name of ["sgxtcbcomponents", "tdxtcbcomponents"]) {
        const short = (info: Record<string, unknown>) => {
          const [level] = info.tcbLevels as { tcb: object }[];
          return { ...info, tcbLevels: [{ ...level, tcb: { ...level.tcb, [name]: [] } }] };
        };
        expect(await refusal({ collateral: { tcbInfo: short } })).to.match(
          new RegExp(`has 0 components in ${name}; it should have 16`),
        );
      }
    });

    it("fails where Intel didn't sign it", async () => {
      const impostor = certify({ name: "Intel SGX TCB Signing", key: "P-256", issuerName: root.name });
      expect(await refusal({ collateral: { signer: impostor } })).to.match(
        /Test SGX Root CA didn't sign Intel SGX TCB Signing/,
      );
      expect(await refusal({ collateral: { signer: impostor, issuers: chainOf(tcbSigner, root) } })).to.match(
        /isn't signed by Intel: it was altered/,
      );
    });

    it("fails where a platform's key signed it, though that is under Intel's root", async () => {
      const parts = { collateral: { signer: pck, issuers: chainOf(pck, platformCa, root) } };
      expect(await refusal(parts)).to.match(/comes with the certificate of "Test PCK", not of "Intel SGX TCB Signing"/);
    });

    it("fails with any character of it changed", async () => {
      const evidence = tdxQuote(reportData);
      for (const name of [
        "tcbInfo",
        "tcbInfoSignature",
        "qeIdentity",
        "qeIdentitySignature",
        "tcbInfoIssuers",
        "qeIdentityIssuers",
      ] as const) {
        const text = evidence.collateral![name];
        for (let index = 0; index < text.length; index += 211) {
          const other = text[index] === "1" ? "2" : "1";
          const collateral = { ...evidence.collateral!, [name]: text.slice(0, index) + other + text.slice(index + 1) };
          expect(
            (await verifyTdxQuote({ ...evidence, collateral }, tdxPolicy(), question)).result,
            `${name} ${index}`,
          ).to.equal("fail");
        }
      }
      const loud = { ...evidence.collateral!, tcbInfoSignature: evidence.collateral!.tcbInfoSignature.toUpperCase() };
      expect(
        reasonAgainst(await verifyTdxQuote({ ...evidence, collateral: loud }, tdxPolicy(), question), "fail"),
      ).to.match(/small letters/);
    });
  });
});
