"""Reads keys that the host exported, as a switch would, with psec and the cryptography package, which have nothing in
common with ours.

    export_reader.py UNDER MAC FILE

UNDER is the key over the exported ones, MAC the one that makes MACs, both hexadecimal; FILE has a record on each line,
as docs/export.md has them. Of each prints a line: its position, device, slot, version, header and check value, once its
MAC is right, its key came out, and the key has the check value that the record states. Of the header line of a file:
`file`, from, to and how many records. Of one that is not so: `refused:` and why.
"""

import hashlib
import json
import sys

from cryptography.hazmat.primitives import cmac, keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from psec import tr31

RECORD = ("format", "target", "name", "position", "state", "device", "slot", "version", "header", "kind",
          "kcv_method", "kcv", "form", "key")
FILE = ("format", "target", "name", "form", "under_kcv", "from", "to", "count", "records_sha256")


class Refused(Exception):
    pass


def aes_cmac(key, data):
    mac = cmac.CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def tdea_ecb(key, data):
    encryptor = Cipher(algorithms.TripleDES(key if len(key) == 24 else key + key[:8]), modes.ECB()).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def check_value(record, key):
    if record["kcv_method"] == "AES_CMAC":
        value = aes_cmac(key, bytes(16))
    else:
        value = tdea_ecb(key, bytes(8))
    return value.hex().upper()[: len(record["kcv"])]


def require_mac(fields, record, key):
    data = b""
    for field in fields:
        text = str(record[field]).encode()
        data += len(text).to_bytes(4, "big") + text
    if aes_cmac(key, data).hex().upper() != record["mac"]:
        raise Refused("the MAC is not right")


def key_of(record, under):
    if record["form"] == "key-wrap":
        return keywrap.aes_key_unwrap(under, bytes.fromhex(record["key"]))
    header, key = tr31.unwrap(under, record["key"])
    stated = record["header"]
    if (header.version_id, header.key_usage, header.algorithm, header.mode_of_use, header.exportability) != (
            "D", stated[5:7], stated[7], stated[8], stated[11]):
        raise Refused("the block has another header")
    return key


def read(line, under, mac, macs):
    record = json.loads(line)
    if record["format"] == "kdh-export-file-1":
        require_mac(FILE, record, mac)
        macs.append(record)
        return ["file", record["from"], record["to"], record["count"]]
    require_mac(RECORD, record, mac)
    macs.append(bytes.fromhex(record["mac"]))
    if record["state"] == "SKIPPED":
        return [record["position"], record["device"], "skipped"]
    key = key_of(record, under)
    if check_value(record, key) != record["kcv"]:
        raise Refused("the key has another check value")
    return [record[field] for field in ("position", "device", "slot", "version", "header", "kcv")]


def main(under, mac, file):
    under, mac = bytes.fromhex(under), bytes.fromhex(mac)
    macs = []
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            try:
                print(*read(line, under, mac, macs))
            except (Refused, tr31.KeyBlockError, tr31.HeaderError, keywrap.InvalidUnwrap) as error:
                print("refused:", error)
    if macs and isinstance(macs[0], dict):
        digest = hashlib.sha256(b"".join(macs[1:])).hexdigest()
        if digest != macs[0]["records_sha256"] or len(macs) - 1 != macs[0]["count"]:
            print("refused: the file does not have its records")


main(*sys.argv[1:])
