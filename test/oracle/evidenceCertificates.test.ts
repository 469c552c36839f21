import { expect } from "chai";
import { generateKeyPairSync } from "node:crypto";
import {
  certificateOf,
  certificatesOf,
  type ChainRules,
  isSignedBy,
  pemOf,
  verifyChain,
} from "../../oracle/evidence/certificates";
import {
  bitStringOf,
  booleanOf,
  childrenOf,
  contentOf,
  elementsOf,
  naturalOf,
  objectIdOf,
  smallNaturalOf,
  timeOf,
} from "../../oracle/evidence/der";
import { checkRevocation, type RevocationAnswers, type RevocationDemand } from "../../oracle/evidence/revocation";
import { Refused, Undecided } from "../../oracle/evidence/verdict";
import {
  boolean,
  type CertificateParts,
  certify,
  context,
  der,
  FAR_OFF,
  integer,
  LONG_AGO,
  objectId,
  ocspAnswer,
  octets,
  type Party,
  revocationList,
  sequence,
} from "../support/der";
import { chainOf, fingerprintOf, NOW } from "../support/evidence";

const ABOUT = "The chain";
const OCSP_USE: CertificateParts["extensions"][number] = ["2.5.29.37", false, sequence(objectId("1.3.6.1.5.5.7.3.9"))];

describe("certificates of evidence", () => {
  let root: Party;
  let middle: Party;
  let leaf: Party;

  before(() => {
    root = certify({ name: "Root", ca: true });
    middle = certify({ name: "Middle", ca: true, pathLength: 0 }, root);
    leaf = certify({ name: "Leaf" }, middle);
  });

  const partsOf = (bytes: Buffer) => elementsOf(elementsOf(bytes, "It")[0].content, "It").map(({ whole }) => whole);

  const read = (...parties: Party[]) => parties.map(({ certificate }) => certificateOf(certificate));

  const rules = (changes: Partial<ChainRules> = {}): ChainRules => ({
    at: NOW,
    roots: [fingerprintOf(root)],
    leafKey: "P-384",
    issuerKeys: ["P-384"],
    distrusted: [],
    ...changes,
  });

  const check = (parties: Party[], changes: Partial<ChainRules> = {}) =>
    verifyChain(read(...parties), rules(changes), ABOUT);
  const leafWith = (parts: Partial<CertificateParts>) => [certify({ name: "Leaf", ...parts }, middle), middle, root];
  const middleWith = (parts: Partial<CertificateParts>) => {
    const issuer = certify({ name: "Middle", ca: true, ...parts }, root);
    return [certify({ name: "Leaf" }, issuer), issuer, root];
  };

  describe("verifyChain", () => {
    it("accepts a chain from a leaf to a pinned root", () => {
      check([leaf, middle, root]);
    });

    it("accepts an RSASSA-PSS chain over an ECDSA leaf", () => {
      const ark = certify({ name: "ARK", key: "RSA", ca: true });
      const ask = certify({ name: "ASK", key: "RSA", ca: true }, ark);
      const chip = certify({ name: "VCEK", keyUsage: null, serial: 0n }, ask);
      check([chip, ask, ark], { roots: [fingerprintOf(ark)], issuerKeys: ["RSA"] });
    });

    const refusals: [what: string, chain: () => Party[], reason: RegExp, changes?: Partial<ChainRules>][] = [
      [
        "a root that isn't pinned",
        () => [leaf, middle, root],
        /Root with the SHA-256 fingerprint .* isn't a trusted root/,
        { roots: ["00"] },
      ],
      ["a chain without its root", () => [leaf, middle], /ends in Middle/],
      ["a leaf alone", () => [leaf], /has 1 certificates/],
      ["more certificates than eight", () => [leaf, ...Array.from({ length: 8 }, () => middle)], /has 9 certificates/],
      ["issuers in the wrong order", () => [middle, leaf, root], /Middle is an authority's certificate/],
      ["a certificate left out", () => [leaf, root], /Leaf wasn't issued by Root/],
      [
        "a leaf that isn't valid yet",
        () => leafWith({ notBefore: NOW + 1 }),
        /Leaf isn't valid before 2023-11-14T22:13:21/,
      ],
      ["a leaf that has expired", () => leafWith({ notAfter: NOW - 1 }), /Leaf expired at 2023-11-14T22:13:19/],
      ["an issuer that has expired", () => middleWith({ notAfter: NOW - 1 }), /Middle expired/],
      ["a chain after its end", () => [leaf, middle, root], /Leaf expired at 2050/, { at: FAR_OFF + 1 }],
      [
        "a chain before its beginning",
        () => [leaf, middle, root],
        /Leaf isn't valid before 2020/,
        { at: LONG_AGO - 1 },
      ],
      [
        "a leaf with a key on another curve",
        () => leafWith({ key: "P-256" }),
        /Leaf has a key of kind P-256, where P-384 belongs/,
      ],
      ["an issuer with another kind of key", () => middleWith({ key: "P-256" }), /Middle has a key of kind P-256/],
      ["a leaf that is an authority", () => leafWith({ ca: true }), /Leaf is an authority's certificate/],
      ["a leaf whose key isn't for signatures", () => leafWith({ keyUsage: 0x20 }), /Leaf's key isn't for signatures/],
      [
        "a leaf for another use",
        () => leafWith({ extensions: [OCSP_USE] }),
        /Leaf's key is for something else than evidence/,
      ],
      [
        "an issuer that is no authority",
        () => middleWith({ ca: false, keyUsage: 0x04 }),
        /Middle issued a certificate, and isn't an authority/,
      ],
      [
        "an issuer that may not sign certificates",
        () => middleWith({ keyUsage: 0x80 }),
        /Middle's key isn't for signing certificates/,
      ],
    ];
    for (const [what, chain, reason, changes] of refusals) {
      it(`refuses ${what}`, () => {
        expect(() => check(chain(), changes)).to.throw(Refused, reason);
      });
    }

    it("refuses certificates that the policy distrusts", () => {
      for (const party of [leaf, middle, root]) {
        expect(() => check([leaf, middle, root], { distrusted: [fingerprintOf(party)] })).to.throw(
          Refused,
          /aren't trusted any/,
        );
      }
    });

    it("refuses more authorities below one than it allows", () => {
      const lower = certify({ name: "Lower", ca: true }, middle);
      const end = certify({ name: "Leaf" }, lower);
      expect(() => check([end, lower, middle, root])).to.throw(
        Refused,
        /Middle allows 0 authorities below it, and there are 1/,
      );
    });

    it("refuses a leaf of an issuer's name that another key signed", () => {
      const impostor = certify({ name: "Middle", ca: true }, root);
      expect(() => check([certify({ name: "Leaf" }, impostor), middle, root])).to.throw(
        Refused,
        /Middle didn't sign Leaf/,
      );
    });

    it("refuses a leaf that names another key of its issuer's than the one that follows", () => {
      const named = (id: number): CertificateParts["extensions"][number] => [
        "2.5.29.14",
        false,
        octets(Buffer.alloc(20, id)),
      ];
      const asked: CertificateParts["extensions"][number] = [
        "2.5.29.35",
        false,
        sequence(der(0x80, Buffer.alloc(20, 2))),
      ];
      for (const [id, accepted] of [
        [2, true],
        [1, false],
      ] as const) {
        const issuer = certify({ name: "Middle", ca: true, extensions: [named(id)] }, root);
        const chain = [certify({ name: "Leaf", extensions: [asked] }, issuer), issuer, root];
        if (accepted) check(chain);
        else expect(() => check(chain)).to.throw(Refused, /Leaf wasn't issued by Middle/);
      }
    });

    it("refuses RSA keys of less than 3,072 bits", () => {
      const ark = certify({ name: "ARK", keys: generateKeyPairSync("rsa", { modulusLength: 2_048 }), ca: true });
      const chain = [certify({ name: "Leaf" }, ark), ark];
      expect(() => check(chain, { roots: [fingerprintOf(ark)], issuerKeys: ["RSA"] })).to.throw(
        Refused,
        /ARK has a key of kind rsa, where RSA belongs/,
      );
    });

    it("refuses a leaf whose body was altered", () => {
      const other = certify(
        { name: "Leaf", alter: (body) => Buffer.from(body.toString("latin1").replace("Leaf", "Loaf"), "latin1") },
        middle,
      );
      expect(() => check([other, middle, root])).to.throw(Refused, /didn't sign Loaf/);
    });

    it("refuses a root of a pinned fingerprint's name that signed itself anew", () => {
      const impostor = certify({ name: "Root", ca: true });
      const below = certify({ name: "Middle", ca: true }, impostor);
      expect(() => check([certify({ name: "Leaf" }, below), below, impostor])).to.throw(
        Refused,
        /isn't a trusted root/,
      );
      expect(() => check([certify({ name: "Leaf" }, below), below, root])).to.throw(Refused, /Root didn't sign Middle/);
    });
  });

  describe("certificateOf", () => {
    it("reads what a certificate says", () => {
      const [certificate] = read(certify({ name: "Leaf", serial: 0n }, middle));
      expect(certificate).to.include({
        name: "Leaf",
        serial: 0n,
        isCa: false,
        notBefore: LONG_AGO,
        notAfter: FAR_OFF,
        keyUsage: 0x80,
      });
      expect(certificate.fingerprint).to.match(/^[0-9a-f]{64}$/);
      expect(read(middle)[0]).to.include({ isCa: true, pathLength: 0 });
    });

    it("refuses a critical extension that it doesn't understand, and takes it where it isn't critical", () => {
      const extensions = (critical: boolean) =>
        [["1.2.3", critical, octets(Buffer.from([1]))]] as CertificateParts["extensions"];
      expect(() => read(certify({ name: "Leaf", extensions: extensions(true) }, middle))).to.throw(
        Refused,
        /critical extension 1\.2\.3/,
      );
      expect(
        read(certify({ name: "Leaf", extensions: extensions(false) }, middle))[0].extensions.has("1.2.3"),
      ).to.equal(true);
    });

    it("refuses an extension that comes twice", () => {
      const one: CertificateParts["extensions"][number] = ["1.2.3", false, octets(Buffer.from([1]))];
      expect(() => read(certify({ name: "Leaf", extensions: [one, one] }, middle))).to.throw(
        Refused,
        /extension 1\.2\.3 twice/,
      );
    });

    it("refuses what follows a certificate, and one that is cut short", () => {
      expect(() => certificateOf(Buffer.concat([leaf.certificate, Buffer.from([0, 0])]))).to.throw(
        Refused,
        /must be one DER element/,
      );
      expect(() => certificateOf(leaf.certificate.subarray(0, -1))).to.throw(Refused, /cut short/);
    });

    it("refuses a key usage that says nothing", () => {
      const empty: CertificateParts["extensions"][number] = ["2.5.29.15", true, der(0x03, Buffer.from([0]))];
      expect(() => read(certify({ name: "Leaf", keyUsage: null, extensions: [empty] }, middle))).to.throw(
        Refused,
        /key usage is empty/,
      );
    });

    it("refuses parts too many, fields too few, and versions before the third", () => {
      const more = sequence(...partsOf(leaf.certificate), integer(1));
      expect(() => certificateOf(more)).to.throw(Refused, /has 1 parts too many/);
      const older = certify({ name: "Leaf", alter: (body) => sequence(...partsOf(body).slice(1)) }, middle);
      expect(() => read(older)).to.throw(Refused, /isn't of X\.509 version 3/);
      const fewer = certify({ name: "Leaf", alter: (body) => sequence(...partsOf(body).slice(0, 6)) }, middle);
      expect(() => read(fewer)).to.throw(Refused, /has too few fields/);
    });

    it("refuses another algorithm outside than inside", () => {
      const altered = Buffer.from(leaf.certificate);
      const algorithm = sequence(objectId("1.2.840.10045.4.3.3"));
      const outside = altered.lastIndexOf(algorithm);
      sequence(objectId("1.2.840.10045.4.3.2")).copy(altered, outside);
      expect(() => certificateOf(altered)).to.throw(Refused, /one signature algorithm inside and another outside/);
    });
  });

  describe("isSignedBy", () => {
    it("refuses algorithms that aren't on its list", () => {
      const { body, signature, key } = read(leaf)[0];
      const sha1 = { body, signature, algorithm: sequence(objectId("1.2.840.10045.4.1")) };
      expect(() => isSignedBy(sha1, key)).to.throw(
        Refused,
        /signature algorithm 1\.2\.840\.10045\.4\.1 isn't accepted/,
      );
    });

    it("refuses RSASSA-PSS with a shorter salt", () => {
      const sha384 = sequence(objectId("2.16.840.1.101.3.4.2.2"), der(0x05));
      const pss = sequence(
        objectId("1.2.840.113549.1.1.10"),
        sequence(
          context(0, sha384),
          context(1, sequence(objectId("1.2.840.113549.1.1.8"), sha384)),
          context(2, integer(20)),
        ),
      );
      const { body, signature, key } = read(leaf)[0];
      expect(() => isSignedBy({ body, signature, algorithm: pss }, key)).to.throw(Refused, /isn't accepted/);
    });

    it("is false for a key of another kind than the algorithm's", () => {
      const ark = certify({ name: "ARK", key: "RSA", ca: true });
      expect(isSignedBy(read(leaf)[0], read(ark)[0].key)).to.equal(false);
      expect(isSignedBy(read(ark)[0], read(leaf)[0].key)).to.equal(false);
    });
  });

  describe("certificatesOf", () => {
    it("reads PEM as it writes it", () => {
      const ders = [leaf, middle].map(({ certificate }) => certificate);
      expect(certificatesOf(pemOf(ders), "Text").map(({ name }) => name)).to.deep.equal(["Leaf", "Middle"]);
    });

    it("refuses any other way to write the same certificates", () => {
      const pem = chainOf(leaf, middle);
      const others = [
        `${pem}\n`,
        ` ${pem}`,
        pem.trimEnd(),
        pem.replaceAll("\n", "\r\n"),
        pem.replace("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n# a comment\n"),
        pem.replace(/\n([A-Za-z0-9+/]{64})\n/, (line) => line.slice(0, 33) + "\n" + line.slice(33)),
        "",
      ];
      for (const other of others)
        expect(() => certificatesOf(other, "Text"), JSON.stringify(other.slice(0, 40))).to.throw(
          Refused,
          /PEM as OpenSSL/,
        );
    });

    it("refuses more than eight certificates", () => {
      expect(() => certificatesOf(chainOf(...Array.from({ length: 9 }, () => leaf)), "Text")).to.throw(
        Refused,
        /more than 8/,
      );
    });
  });

  describe("DER", () => {
    it("refuses lengths that are longer than needed, unending, or beyond the end", () => {
      for (const [bytes, reason] of [
        [[0x04, 0x81, 0x01, 0x00], /longer than DER allows/],
        [[0x04, 0x82, 0x00, 0x80], /longer than DER allows/],
        [[0x04, 0x80, 0x00, 0x00], /length of 0 bytes/],
        [[0x04, 0x84, 0x00, 0x00, 0x00, 0x01], /length of 4 bytes/],
        [[0x04, 0x02, 0x00], /cut short/],
        [[0x04], /cut short/],
        [[0x1f, 0x01, 0x00], /tag of several bytes/],
      ] as [number[], RegExp][]) {
        expect(() => elementsOf(Buffer.from(bytes), "It")).to.throw(Refused, reason);
      }
    });

    it("refuses values that aren't what their place asks for, or aren't written as DER writes them", () => {
      const [two, negative, long, empty, huge, maybe, odd, open] = [
        der(0x02, Buffer.from([2])),
        der(0x02, Buffer.from([0x80])),
        der(0x02, Buffer.from([0, 2])),
        der(0x02),
        integer(2n ** 31n),
        der(0x01, Buffer.from([2])),
        der(0x03, Buffer.from([3, 8])),
        der(0x06, Buffer.from([0x2a, 0x86])),
      ].map((bytes) => elementsOf(bytes, "It")[0]);
      expect(naturalOf(two, "It")).to.equal(2n);
      expect(() => naturalOf(undefined, "It")).to.throw(Refused, /It is missing/);
      expect(() => contentOf(two, 0x04, "It")).to.throw(Refused, /It has tag 0x2 where 0x4 belongs/);
      expect(() => childrenOf(two, 0x30, "It")).to.throw(Refused, /It has tag 0x2 where 0x30 belongs/);
      for (const wrong of [negative, empty])
        expect(() => naturalOf(wrong, "It")).to.throw(Refused, /a whole number from 0 on/);
      expect(() => naturalOf(long, "It")).to.throw(Refused, /written longer than DER allows/);
      expect(() => smallNaturalOf(huge, "It")).to.throw(Refused, /is 2147483648, which is too large/);
      expect(() => booleanOf(maybe, "It")).to.throw(Refused, /must be a boolean/);
      expect(() => bitStringOf(odd, "It")).to.throw(Refused, /a bit string of whole bytes/);
      expect(() => objectIdOf(open, "It")).to.throw(Refused, /is no object identifier/);
    });

    it("reads object identifiers and times of both kinds", () => {
      const [id] = elementsOf(objectId("1.2.840.113741.1.13.1"), "It");
      expect(objectIdOf(id, "It")).to.equal("1.2.840.113741.1.13.1");
      const at = (tag: number, text: string) => timeOf(elementsOf(der(tag, Buffer.from(text)), "It")[0], "It");
      expect(at(0x17, "490101000000Z")).to.equal(Date.UTC(2049, 0, 1) / 1_000);
      expect(at(0x17, "500101000000Z")).to.equal(Date.UTC(1950, 0, 1) / 1_000);
      expect(at(0x18, "99991231235959Z")).to.equal(Date.UTC(9999, 11, 31, 23, 59, 59) / 1_000);
      for (const wrong of ["20230229000000Z", "20230101000000", "2023010100000+Z", "20230101006000Z"]) {
        expect(() => at(0x18, wrong), wrong).to.throw(Refused);
      }
    });
  });

  describe("checkRevocation", () => {
    const ask = (
      answers: Partial<RevocationAnswers>,
      demand: RevocationDemand,
      chain = [leaf, middle, root],
      at = NOW,
    ) => checkRevocation(read(...chain), { crls: [], ocsp: [], ...answers }, { demand, at }, ABOUT);

    it("counts how many certificates current lists cover, and is satisfied where nothing is demanded", () => {
      expect(ask({}, "none")).to.equal(0);
      expect(ask({ crls: [revocationList(root)] }, "issuers")).to.equal(1);
      expect(ask({ crls: [revocationList(root), revocationList(middle)] }, "every")).to.equal(2);
    });

    it("is undecided where an answer is demanded and none came", () => {
      expect(() => ask({}, "every")).to.throw(
        Undecided,
        /Middle has revoked Leaf .* is open at 2023-11-14T22:13:20.000Z: nothing was given/,
      );
      expect(() => ask({ crls: [revocationList(middle)] }, "every")).to.throw(Undecided, /Root has revoked Middle/);
      expect(() => ask({ crls: [revocationList(middle)] }, "issuers")).to.throw(Undecided, /Root has revoked Middle/);
    });

    it("is undecided where the list has expired or isn't valid yet", () => {
      for (const dates of [{ nextUpdate: NOW - 1 }, { thisUpdate: NOW + 1 }]) {
        expect(() => ask({ crls: [revocationList(root, dates)] }, "issuers")).to.throw(
          Undecided,
          /has expired, or isn't valid yet/,
        );
      }
    });

    it("refuses what a list revokes, whatever was demanded, and also after the list's end", () => {
      for (const dates of [{}, { nextUpdate: NOW - 1 }]) {
        const list = revocationList(root, { revoked: [5n, middle.serial], ...dates });
        for (const demand of ["none", "issuers", "every"] as const) {
          expect(() => ask({ crls: [list] }, demand)).to.throw(Refused, /Root has revoked Middle/);
        }
      }
      expect(() => ask({ crls: [revocationList(middle, { revoked: [leaf.serial] })] }, "none")).to.throw(
        Refused,
        /Middle has revoked Leaf/,
      );
    });

    it("takes no notice of a list that its issuer didn't sign", () => {
      const impostor = certify({ name: "Root", ca: true });
      expect(() => ask({ crls: [revocationList(impostor)] }, "issuers")).to.throw(Undecided, /nothing was given/);
      expect(ask({ crls: [revocationList(impostor, { revoked: [middle.serial] })] }, "none")).to.equal(0);
    });

    it("takes no notice of a list that was altered to forget a certificate", () => {
      const [kept, forgotten] = [0x11223344n, 0x55667788n];
      const victim = certify({ name: "Leaf", serial: forgotten }, middle);
      const alter = (body: Buffer) =>
        Buffer.from(body.toString("hex").replace(forgotten.toString(16), kept.toString(16)), "hex");
      const list = revocationList(middle, { revoked: [forgotten], alter });
      expect(() => ask({ crls: [revocationList(root), list] }, "every", [victim, middle, root])).to.throw(
        Undecided,
        /nothing was given/,
      );
    });

    it("takes no notice of a list of another issuer, nor of one whose signer may not sign lists", () => {
      expect(() => ask({ crls: [revocationList(root, { issuerName: "Middle" })] }, "issuers")).to.throw(Undecided);
      const silent = certify({ name: "Root", ca: true, keyUsage: 0x04 });
      const below = certify({ name: "Middle", ca: true }, silent);
      const chain = [certify({ name: "Leaf" }, below), below, silent];
      expect(() => ask({ crls: [revocationList(silent)] }, "issuers", chain)).to.throw(Undecided);
    });

    it("refuses a list that covers less than it seems, and one that can't be read", () => {
      const narrowed = revocationList(root, { extensions: [["2.5.29.28", true, sequence(boolean(true))]] });
      expect(() => ask({ crls: [narrowed] }, "none")).to.throw(Refused, /critical extension 2\.5\.29\.28/);
      expect(() => ask({ crls: [revocationList(root).subarray(0, -1)] }, "none")).to.throw(
        Refused,
        /Revocation list 1 is cut short/,
      );
      expect(() => ask({ crls: [Buffer.from("nonsense")] }, "none")).to.throw(Refused, /Revocation list 1/);
    });

    it("refuses a list with parts or fields too many, or with another algorithm outside than inside", () => {
      const list = revocationList(root);
      expect(() => ask({ crls: [sequence(...partsOf(list), integer(1))] }, "none")).to.throw(
        Refused,
        /has 1 parts too many/,
      );
      const longer = revocationList(root, { alter: (body) => sequence(...partsOf(body), octets(Buffer.alloc(1))) });
      expect(() => ask({ crls: [longer] }, "none")).to.throw(Refused, /has 1 fields too many/);
      const [body, , signature] = partsOf(list);
      const other = sequence(body, sequence(objectId("1.2.840.10045.4.3.2")), signature);
      expect(() => ask({ crls: [other] }, "none")).to.throw(
        Refused,
        /one signature algorithm inside and another outside/,
      );
    });

    describe("by OCSP", () => {
      const responderOf = (issuer: Party, parts: Partial<CertificateParts> = {}) =>
        certify({ name: "Responder", extensions: [OCSP_USE], ...parts }, issuer);

      it("counts answers of the issuer, and of a responder that it named", () => {
        expect(ask({ ocsp: [ocspAnswer(middle, root)] }, "issuers")).to.equal(1);
        const responder = responderOf(root);
        expect(ask({ ocsp: [ocspAnswer(middle, root, { responder }), ocspAnswer(leaf, middle)] }, "every")).to.equal(2);
      });

      it("refuses what an answer calls revoked", () => {
        expect(() => ask({ ocsp: [ocspAnswer(middle, root, { status: "revoked" })] }, "none")).to.throw(
          Refused,
          /Root has revoked Middle/,
        );
      });

      it("is undecided where the answer knows nothing, has expired, has no end, or is of another certificate", () => {
        for (const [answer, reason] of [
          [ocspAnswer(middle, root, { status: "unknown" }), /nothing was given/],
          [ocspAnswer(middle, root, { nextUpdate: NOW - 1 }), /has expired/],
          [ocspAnswer(middle, root, { nextUpdate: null }), /has expired/],
          [ocspAnswer(middle, root, { thisUpdate: NOW + 1 }), /has expired, or isn't valid yet/],
          [ocspAnswer(leaf, root), /nothing was given/],
        ] as [Buffer, RegExp][]) {
          expect(() => ask({ ocsp: [answer] }, "issuers")).to.throw(Undecided, reason);
        }
      });

      it("is undecided where somebody else signed: a party without that use, of another issuer, or the certificate itself", () => {
        const unnamed = certify({ name: "Responder" }, root);
        const server = certify(
          { name: "Responder", extensions: [["2.5.29.37", false, sequence(objectId("1.3.6.1.5.5.7.3.1"))]] },
          root,
        );
        const others = [unnamed, server, middle];
        for (const responder of others) {
          expect(() => ask({ ocsp: [ocspAnswer(middle, root, { responder })] }, "issuers")).to.throw(
            Undecided,
            /nothing was given/,
          );
        }
        expect(() => ask({ ocsp: [ocspAnswer(middle, root, { responder: responderOf(middle) })] }, "issuers")).to.throw(
          Refused,
          /wasn't issued by Root/,
        );
        expect(() =>
          ask({ ocsp: [ocspAnswer(middle, root, { responder: responderOf(root, { notAfter: NOW - 1 }) })] }, "issuers"),
        ).to.throw(Refused, /Responder expired/);
      });

      it("refuses an answer of another kind, with another hash or state, or with parts too many", () => {
        for (const [parts, reason] of [
          [{ type: "1.2.3" }, /isn't a basic OCSP answer/],
          [{ hash: "1.2.840.113549.2.5" }, /by a hash other than SHA-1, SHA-256 and SHA-384/],
          [{ state: der(0x83) }, /has a status that OCSP doesn't know/],
          [{ more: [context(0, sequence()), integer(1)] }, /has 1 parts too many/],
        ] as const) {
          expect(() =>
            ask(
              { ocsp: [ocspAnswer(middle, root, { ...parts, more: [...("more" in parts ? parts.more : [])] })] },
              "none",
            ),
          ).to.throw(Refused, reason);
        }
      });

      it("takes no notice of an answer of an issuer of the same name with another key", () => {
        const issuerKey = Buffer.alloc(97, 4);
        expect(() => ask({ ocsp: [ocspAnswer(middle, root, { issuerKey })] }, "issuers")).to.throw(
          Undecided,
          /nothing was given/,
        );
      });

      it("takes no notice of an altered answer, and refuses an error and nonsense", () => {
        const [innocent, guilty] = [0x11223344n, 0x55667788n];
        const alter = (body: Buffer) =>
          Buffer.from(body.toString("hex").replace(innocent.toString(16), guilty.toString(16)), "hex");
        const [good, bad] = [innocent, guilty].map((serial) => certify({ name: "Leaf", serial }, middle));
        const current = { crls: [revocationList(root)] };
        expect(ask({ ...current, ocsp: [ocspAnswer(good, middle)] }, "every", [good, middle, root])).to.equal(2);
        expect(() =>
          ask({ ...current, ocsp: [ocspAnswer(good, middle, { alter })] }, "every", [bad, middle, root]),
        ).to.throw(Undecided, /nothing was given/);
        expect(() => ask({ ocsp: [ocspAnswer(middle, root, { outcome: 6 })] }, "none")).to.throw(
          Refused,
          /is an error \(code 6\)/,
        );
        expect(() => ask({ ocsp: [Buffer.from("nonsense")] }, "none")).to.throw(Refused, /OCSP answer 1/);
      });
    });
  });
});
