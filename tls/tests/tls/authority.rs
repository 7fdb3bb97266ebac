//! CAs by the `openssl` command line: they certify what our own CA code refuses to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pki::Certificate;

pub(crate) struct Authority {
    directory: PathBuf,
    pub(crate) certificate: Certificate,
}

/// What makes one certificate different from another.
#[derive(Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) extensions: &'static str,
    /// `YYYYMMDDHHMMSSZ`.
    pub(crate) from: &'static str,
    pub(crate) until: &'static str,
}

const END_ENTITY: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";

pub(crate) const SERVER: Profile = Profile {
    extensions: "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:kdh.example,IP:127.0.0.1\n",
    from: "20200101000000Z",
    until: "20491231235959Z",
};

pub(crate) const CLIENT: Profile = Profile {
    extensions: "extendedKeyUsage=clientAuth\n",
    ..SERVER
};

impl Profile {
    pub(crate) const fn with(self, extensions: &'static str) -> Self {
        Self { extensions, ..self }
    }

    pub(crate) const fn expired(self) -> Self {
        Self {
            until: "20210101000000Z",
            ..self
        }
    }

    pub(crate) const fn not_yet_valid(self) -> Self {
        Self {
            from: "20490101000000Z",
            ..self
        }
    }
}

impl Authority {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("index.txt"), "").unwrap();
        let configuration = "[ca]\ndefault_ca=this\n[this]\ndatabase=index.txt\nnew_certs_dir=.\n\
            rand_serial=yes\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\nunique_subject=no\n\
            policy=any\n[any]\ncommonName=supplied\norganizationalUnitName=optional\n";
        fs::write(directory.join("ca.cnf"), configuration).unwrap();
        let subject = format!("/CN={name}");
        openssl(
            &directory,
            "req -x509 -newkey rsa:2048 -noenc -keyout ca.key -out ca.pem -days 30 \
             -addext basicConstraints=critical,CA:TRUE,pathlen:0 \
             -addext keyUsage=critical,keyCertSign,cRLSign -subj",
            &[&subject],
        );
        let certificate = fs::read_to_string(directory.join("ca.pem")).unwrap();
        Self {
            certificate: Certificate::from_pem(&certificate).unwrap(),
            directory,
        }
    }

    /// Certifies whatever asks, as whatever it is told to.
    pub(crate) fn certify(&self, request: &[u8], profile: Profile) -> Certificate {
        let Profile {
            extensions,
            from,
            until,
        } = profile;
        fs::write(self.directory.join("request"), request).unwrap();
        let extensions = format!("{END_ENTITY}{extensions}");
        fs::write(self.directory.join("extensions"), extensions).unwrap();
        openssl(
            &self.directory,
            "ca -batch -notext -config ca.cnf -inform DER -in request \
             -extfile extensions -out issued.pem -startdate",
            &[from, "-enddate", until],
        );
        let issued = fs::read_to_string(self.directory.join("issued.pem")).unwrap();
        Certificate::from_pem(&issued).unwrap()
    }
}

fn openssl(directory: &Path, arguments: &str, more: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(directory)
        .args(arguments.split_whitespace())
        .args(more)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {message}");
}
