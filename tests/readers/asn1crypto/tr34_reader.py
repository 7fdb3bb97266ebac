#!/usr/bin/python3
"""Python's asn1crypto as another reader of TR-34 tokens. For tests only.

    tr34_reader.py FILE

prints one JSON object of strings: what token it is, who signed it and for whom it is, and with which
algorithms. Names are as in Tr34Reader.java, so that what the two say can be compared.

No signature is verified here and nothing is decrypted: asn1crypto only reads. What is checked is the
messageDigest. Everything that this reader does not expect is a line on standard error and exit status 1;
content that asn1crypto cannot read is named in "unreadable", and the rest is printed.
"""

import hashlib
import json
import sys

from asn1crypto import cms, core

RANDOM_NONCE = "1.2.840.113549.1.9.25.3"
"""PKCS #9's randomNonce, which asn1crypto has no name for."""

HEADER = "1.2.840.113549.1.7.1"
"""TR-34 has the key block header as an attribute of the type id-data."""


class Content(core.Sequence):
    """RFC 5652's EncapsulatedContentInfo. asn1crypto's own reads on inside the OCTET STRING."""

    _fields = [
        ("content_type", cms.ContentType),
        ("content", core.OctetString, {"explicit": 0, "optional": True}),
    ]


class SignedData(core.Sequence):
    """RFC 5652's SignedData. asn1crypto's own takes version 1 for PKCS #7, without the OCTET STRING."""

    _fields = [
        ("version", cms.CMSVersion),
        ("digest_algorithms", cms.DigestAlgorithms),
        ("encap_content_info", Content),
        ("certificates", cms.CertificateSet, {"implicit": 0, "optional": True}),
        ("crls", cms.RevocationInfoChoices, {"implicit": 1, "optional": True}),
        ("signer_infos", cms.SignerInfos),
    ]


class Token(core.Sequence):
    """RFC 5652's ContentInfo, with SignedData in it."""

    _fields = [
        ("content_type", cms.ContentType),
        ("content", SignedData, {"explicit": 0}),
    ]


class Refused(Exception):
    """The bytes are not what this reader takes."""


def main(path):
    with open(path, "rb") as file:
        token = file.read()
    report = {"der": "yes"}
    # The one token that is no ContentInfo: a bare attribute.
    if token[2:14] == core.ObjectIdentifier(RANDOM_NONCE).dump():
        read_random(token, report)
    else:
        read_signed_data(token, report)
    print(json.dumps(report, indent=2))


def read_random(token, report):
    attribute = whole(cms.CMSAttribute, token, report)
    report["kind"] = "RT_KRD"
    report["nonce"] = octets(attribute).hex()


def read_signed_data(token, report):
    info = whole(Token, token, report)
    require(info["content_type"].native == "signed_data", "not SignedData")
    fields = info["content"]
    report["version"] = str(int(fields["version"]))
    report["content-type"] = fields["encap_content_info"]["content_type"].dotted
    report["certificates"] = str(count(fields["certificates"]))
    report["crls"] = str(count(fields["crls"]))
    report["digest-algorithms"] = " ".join(algorithm(a) for a in fields["digest_algorithms"])
    signers = fields["signer_infos"]
    if len(signers) == 0:
        read_credential(fields, report)
        return
    require(len(signers) == 1, f"{len(signers)} signers")
    content = fields["encap_content_info"]["content"].native
    require(content is not None, "nothing is signed")
    read_signer(signers[0], content, report)
    try:
        read_content(content, report)
    except (Refused, ValueError) as error:
        # asn1crypto says in further lines where it was.
        report["unreadable"] = str(error).split("\n", 1)[0]


def read_credential(fields, report):
    """CT_KRD and CT_KDH: certificates without a signature."""
    require(count(fields["certificates"]) == 1, "not one certificate")
    report["certificate"] = fields["certificates"][0].dump().hex()
    report["kind"] = "CT_KRD"
    if count(fields["crls"]) > 0:
        require(count(fields["crls"]) == 1, "more than one revocation list")
        report["kind"] = "CT_KDH"
        report["crl"] = fields["crls"][0].dump().hex()


def read_signer(signer, content, report):
    require(signer["sid"].name == "issuer_and_serial_number", "the signer is named in another way")
    report["signer"] = signer["sid"].chosen.dump().hex()
    report["digest-algorithm"] = algorithm(signer["digest_algorithm"])
    report["signature-algorithm"] = algorithm(signer["signature_algorithm"])
    attributes = signer["signed_attrs"]
    types = [attribute["type"].dotted for attribute in attributes]
    require(len(set(types)) == len(types), "an attribute is there twice")
    report["attributes"] = " ".join(types)
    for kind, attribute in zip(types, attributes):
        name = attribute["type"].native
        if name == "content_type":
            require(only(attribute).dotted == report["content-type"], "another contentType is signed")
        elif name == "message_digest":
            require(octets(attribute) == hashlib.sha256(content).digest(), "messageDigest is of other content")
            report["digest"] = "right"
        elif name == "signing_time":
            report["signing-time"] = only(attribute).native.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif kind == RANDOM_NONCE:
            report["nonce"] = octets(attribute).hex()
        elif kind == HEADER:
            report["header"] = octets(attribute).decode("ascii")


def read_content(content, report):
    """What is signed, and so which token this is."""
    kind = report["content-type"]
    if kind == cms.ContentType("enveloped_data").dotted:
        report["kind"] = "KT_KDH"
        read_enveloped(content, report)
    elif kind == cms.ContentType("signed_data").dotted:
        inner = whole(SignedData, content, report)
        require(len(inner["signer_infos"]) == 0, "the inner SignedData is signed")
        require(count(inner["certificates"]) == 1, "not one new certificate")
        report["new-kdh-certificate"] = inner["certificates"][0].dump().hex()
        read_identities("RBT", inner["encap_content_info"]["content"].native, report)
    elif kind == cms.ContentType("data").dotted:
        read_identities("UBT", content, report)
    else:
        raise Refused(f"content of type {kind}")


def read_enveloped(content, report):
    enveloped = cms.EnvelopedData.load(content, strict=True)
    require(len(enveloped["recipient_infos"]) == 1, "not one recipient")
    recipient = enveloped["recipient_infos"][0]
    require(recipient.name == "ktri", "not encrypted for an RSA key")
    recipient = recipient.chosen
    require(recipient["rid"].name == "issuer_and_serial_number", "the recipient is named in another way")
    report["recipient"] = recipient["rid"].chosen.dump().hex()
    encrypted = enveloped["encrypted_content_info"]
    report["cipher"] = encrypted["content_encryption_algorithm"]["algorithm"].dotted
    require(encrypted["encrypted_content"].native, "nothing is encrypted")
    encryption = recipient["key_encryption_algorithm"]
    require(encryption["algorithm"].native == "rsaes_oaep", "not RSAES-OAEP")
    # Before the hashes are named: to asn1crypto, parameters without RFC 4055's tags are elements too many,
    # and the hashes then the default, SHA-1.
    whole(cms.EnvelopedData, content, report)
    parameters = encryption["parameters"]
    report["oaep-hash"] = algorithm(parameters["hash_algorithm"])
    report["oaep-mgf-hash"] = algorithm(parameters["mask_gen_algorithm"]["parameters"])


def read_identities(verb, content, report):
    """One or two identities, side by side."""
    named = []
    while content:
        identity = cms.IssuerAndSerialNumber.load(content)
        named.append(identity.dump())
        content = content[len(named[-1]):]
    require(len(named) in (1, 2), f"{len(named)} identities")
    report["kind"] = verb + ("_KDH" if len(named) == 1 else "_CA")
    report["krd"] = named[0].hex()
    if len(named) == 2:
        report["kdh"] = named[1].hex()


def whole(kind, encoded, report):
    """Reads all the bytes, and notes if they are not the DER of what was read."""
    value = kind.load(encoded, strict=True)
    # asn1crypto numbers the elements for which a structure has no field.
    require(not has_number(value.native), f"an element too many in {kind.__name__}")
    # Writing it anew sorts the sets and leaves defaults out.
    if value.copy().dump(force=True) != encoded:
        report["der"] = "no"
    return value


def has_number(native):
    if isinstance(native, dict):
        return any(key.isdigit() or has_number(value) for key, value in native.items())
    return isinstance(native, (list, tuple)) and any(has_number(value) for value in native)


def algorithm(value):
    """The identifier, and "+NULL" where such parameters stand behind it."""
    null = isinstance(value["parameters"], core.Null)
    return value["algorithm"].dotted + ("+NULL" if null else "")


def count(optional_set):
    return 0 if isinstance(optional_set, core.Void) else len(optional_set)


def only(attribute):
    require(len(attribute["values"]) == 1, f"{attribute['type'].dotted} has not one value")
    value = attribute["values"][0]
    return value.parse() if isinstance(value, core.Any) else value


def octets(attribute):
    value = only(attribute)
    require(isinstance(value, core.OctetString), f"{attribute['type'].dotted} is no OCTET STRING")
    return value.native


def require(holds, otherwise):
    if not holds:
        raise Refused(otherwise)


if __name__ == "__main__":
    try:
        require(len(sys.argv) == 2, "which file?")
        main(sys.argv[1])
    except (Refused, ValueError, OSError) as error:
        sys.exit(f"tr34_reader: {error}")
