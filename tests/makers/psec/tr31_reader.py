"""Opens TR-31 key blocks with psec, an implementation that has nothing in common with ours.

    tr31_reader.py KBPK BLOCK ...

The KBPK is hexadecimal. Of each block prints a line: the header, in 16 characters as if it had neither length nor
optional blocks; each optional block, `ID=DATA`; and last the key in hexadecimal. Of one that does not open:
`refused:` and psec's reason.
"""

import sys

from psec import tr31


def opened(kbpk, block):
    try:
        header, key = tr31.unwrap(kbpk, block)
    except (tr31.KeyBlockError, tr31.HeaderError) as error:
        return ["refused:", str(error)]
    fields = (
        f"{header.version_id}0000{header.key_usage}{header.algorithm}{header.mode_of_use}"
        f"{header.version_num}{header.exportability}0000"
    )
    optional = [f"{identifier}={data}" for identifier, data in header.blocks.items()]
    return [fields, *optional, key.hex()]


for block in sys.argv[2:]:
    print(*opened(bytes.fromhex(sys.argv[1]), block))
