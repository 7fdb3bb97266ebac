"""Makes TR-31 key blocks with psec, an implementation that has nothing in common with ours.

    tr31_maker.py KBPK HEADER KEY [MASKED_LENGTH] [ID=DATA ...]

Keys are hexadecimal. HEADER gives version, usage, algorithm, mode, key version number and exportability, in
the 16 characters of a header without optional blocks; psec sets the rest. MASKED_LENGTH is the length in bytes
that the payload shows for a key, - for psec's own choice. Prints the block.
"""

import sys

from psec import tr31


def main(kbpk, header, key, masked_length="-", *optional):
    fields = tr31.Header(
        header[0], header[5:7], header[7], header[8], header[9:11], header[11]
    )
    for block in optional:
        identifier, data = block.split("=", 1)
        fields.blocks[identifier] = data
    length = None if masked_length == "-" else int(masked_length)
    block = tr31.KeyBlock(bytes.fromhex(kbpk), fields)
    print(block.wrap(bytes.fromhex(key), length))


main(*sys.argv[1:])
