//! NSS softoken, set up as PKCS#11 has it: NSS is told in `C_Initialize` where its tokens are, knows no
//! label but those of its parameters, and wants no PIN of a security officer before the user has one.
//! Where it is named, [`special`](crate::special) makes good for that. No PKCS#11 calls here.

use std::{
    env,
    ffi::{CString, OsString},
    fs,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    sync::OnceLock,
};

use cryptoki_sys::{CK_SLOT_ID, CK_TOKEN_INFO, CKF_TOKEN_INITIALIZED};

use crate::faulty::complain;

/// A file: NSS's library, and the folder of a token in each line that follows.
const FILE: &str = "FAULTY_NSS";

/// NSS leaves slots from here on to whoever names tokens.
const FIRST_SLOT: CK_SLOT_ID = 4;

/// In a token's folder, once the token is initialized.
const LABEL: &str = "label";

pub(crate) type Label = [u8; 32];

pub(crate) struct Nss {
    pub(crate) library: OsString,
    folders: Vec<PathBuf>,
}

/// What the file says, if one is named and can be read.
pub(crate) fn nss() -> Option<&'static Nss> {
    static NSS: OnceLock<Option<Nss>> = OnceLock::new();
    let read = || {
        let path = env::var_os(FILE)?;
        let read = fs::read(&path);
        let text = read.map_err(|error| complain(&format!("{FILE}={}: {error}", path.display())));
        let mut lines = text.ok()?;
        lines.truncate(lines.trim_ascii_end().len());
        let mut lines = lines.split(|byte| *byte == b'\n');
        let path_of = |line: &[u8]| OsString::from_vec(line.to_vec());
        Some(Nss {
            library: path_of(lines.next()?),
            folders: lines.map(|line| path_of(line).into()).collect(),
        })
    };
    NSS.get_or_init(read).as_ref()
}

impl Nss {
    /// What `C_Initialize` is handed. None if a folder's name has a NUL in it.
    pub(crate) fn parameters(&self) -> Option<CString> {
        let tokens = (FIRST_SLOT..).zip(&self.folders).map(|(slot, folder)| {
            format!(
                "{slot:#x}=[configDir='sql:{}' minPWLen=0]",
                folder.display()
            )
        });
        let tokens: Vec<String> = tokens.collect();
        CString::new(format!(
            "configdir='' flags=noModDB tokens=<{}>",
            tokens.join(" ")
        ))
        .ok()
    }

    /// As the token's owner has called it.
    pub(crate) fn name(&self, slot: CK_SLOT_ID, info: &mut CK_TOKEN_INFO) {
        info.flags &= !CKF_TOKEN_INITIALIZED;
        info.label = [b' '; 32];
        let label = self.label_file(slot).map(fs::read);
        if let Some(Ok(Ok(label))) = label.map(|read| read.map(Label::try_from)) {
            info.flags |= CKF_TOKEN_INITIALIZED;
            info.label = label;
        }
    }

    /// Remembers what its owner calls it; whether that could be done.
    pub(crate) fn rename(&self, slot: CK_SLOT_ID, label: &Label) -> bool {
        let written = self.label_file(slot).map(|file| fs::write(file, label));
        matches!(written, Some(Ok(())))
    }

    fn label_file(&self, slot: CK_SLOT_ID) -> Option<PathBuf> {
        let number = usize::try_from(slot.checked_sub(FIRST_SLOT)?).ok()?;
        Some(self.folders.get(number)?.join(LABEL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_tokens(folder: &str) -> Nss {
        let folders = ["one", "two"].map(|name| PathBuf::from(folder).join(name));
        Nss {
            library: OsString::new(),
            folders: folders.into(),
        }
    }

    #[test]
    fn each_token_has_a_slot() {
        let parameters = two_tokens("/tokens").parameters().unwrap();
        assert_eq!(
            parameters.to_str().unwrap(),
            "configdir='' flags=noModDB tokens=<\
             0x4=[configDir='sql:/tokens/one' minPWLen=0] \
             0x5=[configDir='sql:/tokens/two' minPWLen=0]>"
        );
        assert!(two_tokens("/tok\0ens").parameters().is_none());
    }

    #[test]
    fn what_has_no_label_is_not_initialized() {
        let nss = two_tokens("/there/is/no/such/folder");
        for slot in [0, FIRST_SLOT - 1, FIRST_SLOT, FIRST_SLOT + 2] {
            let mut info = CK_TOKEN_INFO {
                flags: CKF_TOKEN_INITIALIZED | 1,
                label: *b"NSS's own name for this token   ",
                ..CK_TOKEN_INFO::default()
            };
            nss.name(slot, &mut info);
            assert_eq!((info.flags, info.label), (1, [b' '; 32]), "{slot}");
            assert!(!nss.rename(slot, &[b'x'; 32]), "{slot}");
        }
    }
}
