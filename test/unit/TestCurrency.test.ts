import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Signature, type TypedDataField } from "ethers";
import hre from "hardhat";
import { TestCurrency__factory } from "../../typechain-types";
import { DAY, namedActors, usd } from "../support/market";

const PERMIT = "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline";
const AUTHORIZATION = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce";

/** How a signature is given: as the standard has it, and as USDC has it since its version 2.2. */
const FORMS = {
  "v, r and s": {
    types: "uint8,bytes32,bytes32",
    values: (signature: string) => {
      const { v, r, s } = Signature.from(signature);
      return [v, r, s];
    },
  },
  bytes: { types: "bytes", values: (signature: string) => [signature] },
} as const;

const fieldsOf = (struct: string): TypedDataField[] =>
  struct.split(",").map((field) => {
    const [type, name] = field.split(" ");
    return { name, type };
  });

async function deploy() {
  const { licensee: payer, operator: payee, outsider } = await namedActors();
  const deployed = await hre.ethers.deployContract("TestCurrency");
  const currency = TestCurrency__factory.connect(await deployed.getAddress(), outsider);
  await currency.mint(payer, usd(100));
  const { chainId } = await hre.ethers.provider.getNetwork();
  const domain = { name: "Test USD", version: "1", chainId, verifyingContract: await currency.getAddress() };
  return { currency, domain, payer, payee, outsider };
}

describe("TestCurrency", () => {
  let market: Awaited<ReturnType<typeof deploy>>;
  let currency: typeof market.currency;
  let now: number;

  beforeEach(async () => {
    market = await loadFixture(deploy);
    currency = market.currency;
    now = await time.latest();
  });

  const sign = (primaryType: string, struct: string, message: Record<string, unknown>, signer = market.payer) =>
    signer.signTypedData(market.domain, { [primaryType]: fieldsOf(struct) }, message);

  it("has six decimals, as USDC has", async () => {
    expect(await currency.decimals()).to.equal(6);
    expect(await currency.DOMAIN_SEPARATOR()).to.equal(hre.ethers.TypedDataEncoder.hashDomain(market.domain));
  });

  it("lets anybody mint", async () => {
    await currency.mint(market.outsider, usd(5));
    expect(await currency.balanceOf(market.outsider)).to.equal(usd(5));
  });

  describe("permit (EIP-2612)", () => {
    const permitOf = async (changes: Record<string, unknown> = {}, signer = market.payer) => {
      const permit = {
        owner: market.payer.address,
        spender: market.payee.address,
        value: usd(10),
        nonce: await currency.nonces(market.payer),
        deadline: now + DAY,
        ...changes,
      };
      const { v, r, s } = Signature.from(await sign("Permit", PERMIT, permit, signer));
      return [permit.owner, permit.spender, permit.value, permit.deadline, v, r, s] as const;
    };

    it("sets the allowance and uses the nonce up, whoever submits it", async () => {
      await currency.permit(...(await permitOf()));

      expect(await currency.allowance(market.payer, market.payee)).to.equal(usd(10));
      expect(await currency.nonces(market.payer)).to.equal(1);
    });

    it("reverts with ERC2612InvalidSigner when it is replayed", async () => {
      const permit = await permitOf();
      await currency.permit(...permit);
      await expect(currency.permit(...permit)).to.be.revertedWithCustomError(currency, "ERC2612InvalidSigner");
    });

    it("reverts with ERC2612ExpiredSignature after its deadline", async () => {
      await expect(currency.permit(...(await permitOf({ deadline: now - 1 }))))
        .to.be.revertedWithCustomError(currency, "ERC2612ExpiredSignature")
        .withArgs(now - 1);
    });

    it("reverts with ERC2612InvalidSigner when another signed it", async () => {
      await expect(currency.permit(...(await permitOf({}, market.outsider))))
        .to.be.revertedWithCustomError(currency, "ERC2612InvalidSigner")
        .withArgs(market.outsider.address, market.payer.address);
    });
  });

  const kinds = ["transferWithAuthorization", "receiveWithAuthorization"] as const;
  for (const [kind, form] of kinds.flatMap((kind) => Object.entries(FORMS).map(([name]) => [kind, name] as const))) {
    describe(`${kind} (EIP-3009), signed in ${form}`, () => {
      const { types, values } = FORMS[form as keyof typeof FORMS];
      const primaryType = kind[0].toUpperCase() + kind.slice(1);
      const executor = () => (kind === "transferWithAuthorization" ? market.outsider : market.payee);

      const authorizationOf = async (
        changes: Record<string, unknown> = {},
        signer = market.payer,
        type = primaryType,
      ) => {
        const authorization = {
          from: market.payer.address,
          to: market.payee.address,
          value: usd(10),
          validAfter: now - 1,
          validBefore: now + DAY,
          nonce: id("nonce"),
          ...changes,
        };
        const { from, to, value, validAfter, validBefore, nonce } = authorization;
        const signature = await sign(type, AUTHORIZATION, authorization, signer);
        return [from, to, value, validAfter, validBefore, nonce, ...values(signature)];
      };

      const execute = async (authorization: Awaited<ReturnType<typeof authorizationOf>>, by = executor()) =>
        currency.connect(by).getFunction(`${kind}(address,address,uint256,uint256,uint256,bytes32,${types})`)(
          ...authorization,
        );

      it("moves the money and marks the nonce as used", async () => {
        await expect(execute(await authorizationOf())).to.changeTokenBalances(
          currency,
          [market.payer, market.payee],
          [-usd(10), usd(10)],
        );
        expect(await currency.authorizationState(market.payer, id("nonce"))).to.equal(true);
      });

      it("emits AuthorizationUsed", async () => {
        await expect(execute(await authorizationOf()))
          .to.emit(currency, "AuthorizationUsed")
          .withArgs(market.payer.address, id("nonce"));
      });

      it("reverts with AuthorizationNotYetValid until the second after validAfter", async () => {
        const authorization = await authorizationOf({ validAfter: now + 10 });
        await time.setNextBlockTimestamp(now + 10);
        await expect(execute(authorization))
          .to.be.revertedWithCustomError(currency, "AuthorizationNotYetValid")
          .withArgs(now + 10);
        await execute(authorization);
      });

      it("reverts with AuthorizationExpired from validBefore on", async () => {
        const authorization = await authorizationOf({ validBefore: now + 10 });
        await time.setNextBlockTimestamp(now + 10);
        await expect(execute(authorization))
          .to.be.revertedWithCustomError(currency, "AuthorizationExpired")
          .withArgs(now + 10);
      });

      it("reverts with AuthorizationUsedBefore when it is replayed", async () => {
        const authorization = await authorizationOf();
        await execute(authorization);
        await expect(execute(authorization))
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(market.payer.address, id("nonce"));
      });

      it("reverts with SignatureInvalid when another signed it", async () => {
        await expect(execute(await authorizationOf({}, market.outsider)))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.payer.address);
      });

      it("reverts with SignatureInvalid when it was signed for the other kind of transfer", async () => {
        const other = primaryType.startsWith("Transfer") ? "ReceiveWithAuthorization" : "TransferWithAuthorization";
        await expect(execute(await authorizationOf({}, market.payer, other)))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.payer.address);
      });

      it("reverts with ERC20InsufficientBalance when the payer hasn't the money", async () => {
        await expect(execute(await authorizationOf({ value: usd(101) })))
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientBalance")
          .withArgs(market.payer.address, usd(100), usd(101));
      });

      if (kind === "receiveWithAuthorization") {
        it("reverts with CallerNotPayee when anybody but the payee executes it", async () => {
          await expect(execute(await authorizationOf(), market.outsider))
            .to.be.revertedWithCustomError(currency, "CallerNotPayee")
            .withArgs(market.outsider.address, market.payee.address);
        });
      }

      it("can be cancelled before it is used", async () => {
        await cancel(form);
        await expect(execute(await authorizationOf()))
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(market.payer.address, id("nonce"));
      });
    });
  }

  const cancel = async (form: string, signer = market.payer) => {
    const { types, values } = FORMS[form as keyof typeof FORMS];
    const message = { authorizer: market.payer.address, nonce: id("nonce") };
    const signature = await sign("CancelAuthorization", "address authorizer,bytes32 nonce", message, signer);
    const { authorizer, nonce } = message;
    return currency.getFunction(`cancelAuthorization(address,bytes32,${types})`)(
      authorizer,
      nonce,
      ...values(signature),
    );
  };

  for (const form of Object.keys(FORMS)) {
    describe(`cancelAuthorization (EIP-3009), signed in ${form}`, () => {
      it("reverts with AuthorizationUsedBefore when the nonce was used or cancelled before", async () => {
        await cancel(form);
        await expect(cancel(form))
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(market.payer.address, id("nonce"));
      });

      it("reverts with SignatureInvalid when another signed it", async () => {
        await expect(cancel(form, market.outsider))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.payer.address);
      });

      it("marks the nonce as used and emits AuthorizationCanceled", async () => {
        await expect(cancel(form))
          .to.emit(currency, "AuthorizationCanceled")
          .withArgs(market.payer.address, id("nonce"));
        expect(await currency.authorizationState(market.payer, id("nonce"))).to.equal(true);
      });
    });
  }
});
