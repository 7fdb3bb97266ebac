//! A host that does as it is told: sound by default, and wrong in one thing where a test says so.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use hsm::{
    ClearKey, HsmError, Kcv, KcvMethod, KeyName, KeyPairKind, KeyRole, SealRequest, SecretKey,
    Token,
};
use kdh_proto::{
    Reason,
    v1::{
        AcknowledgeBindingRequest, AcknowledgeBindingResponse, Assignment, BindRequest,
        BindResponse, BindingOrder, BindingStatement, ConfirmRequest, ConfirmResponse,
        EnrollRequest, EnrollResponse, FetchAuthorityTokenRequest, FetchAuthorityTokenResponse,
        KeyCheckValue, ListAssignmentsRequest, ListAssignmentsResponse, RequestKeyRequest,
        RequestKeyResponse, RequestRebindRequest, RequestRebindResponse, RequestUnbindRequest,
        RequestUnbindResponse,
        binding_order::Kind,
        fetch_authority_token_response::Token as AuthorityToken,
        key_check_value::Method,
        key_distribution_server::{KeyDistribution, KeyDistributionServer},
    },
};
use pki::{Certificate, CsrKey, Role, verify_csr};
use prost::Message as _;
use time::OffsetDateTime;
use token_tls::{AcceptLimits, ClientAuthentication, TlsIdentity, accept, server_config};
use tonic::{Request, Response, Status};
use tr34::{
    ContentCipher, EnvelopedKeyBlock, Freshness, KdhCredentialToken, KdhRebindToken,
    KdhUnbindToken, KeyBlockFrame, KeyKind, KeyToken, KrdCredentialToken, KrdNonce, OaepHash,
    Profile, RandomToken,
};

use crate::{
    tokens::new_token,
    world::{HEADER, SERIAL, SoftSigner, World, header, id, sign, signing_time},
};

/// The world as TLS sees it, which reads the clock itself.
pub(crate) static TODAY: LazyLock<World> =
    LazyLock::new(|| World::at(OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()));

pub(crate) const CODE: &str = "activation-code";

/// A key token before it is made.
pub(crate) struct Order {
    pub(crate) freshness: Freshness,
    /// In the block.
    pub(crate) inside: &'static str,
    /// Signed.
    pub(crate) outside: &'static str,
    pub(crate) recipient: Certificate,
    pub(crate) signer: &'static SoftSigner,
    /// What the cipher is said to be, whatever it is.
    pub(crate) said_cipher: Option<ContentCipher>,
    /// Which of the two master keys.
    pub(crate) master: usize,
}

/// An unbind or rebind token before it is made.
pub(crate) struct MoveOrder {
    pub(crate) nonce: KrdNonce,
    pub(crate) krd: Certificate,
    pub(crate) new_kdh: Certificate,
    pub(crate) signer: Certificate,
    pub(crate) key: &'static SoftSigner,
}

/// How a receipt is answered.
#[derive(Clone, Copy)]
pub(crate) enum Confirmation {
    Refused(Reason),
    /// Taken, and the answer lost.
    Lost,
}

/// What the host does, and what it has seen.
pub(crate) struct Script {
    pub(crate) profile: Profile,
    pub(crate) kdh: Certificate,
    pub(crate) kdh_key: &'static SoftSigner,
    pub(crate) crl: Vec<u8>,
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) lose_enroll: bool,
    pub(crate) alter_enroll: fn(&mut EnrollResponse),
    pub(crate) alter_order: fn(&mut Order),
    pub(crate) alter_answer: fn(&mut RequestKeyResponse),
    /// The next answers to Confirm; it is accepted where nothing is said.
    pub(crate) confirmations: VecDeque<Confirmation>,
    /// What an operator has ordered.
    pub(crate) ordered: Option<Kind>,
    pub(crate) alter_move: fn(&mut MoveOrder),
    pub(crate) authority_token: Option<AuthorityToken>,
    /// As `confirmations`, to `AcknowledgeBinding`.
    pub(crate) acknowledgements: VecDeque<Confirmation>,

    pub(crate) enrolls: Vec<EnrollRequest>,
    pub(crate) requests: Vec<RequestKeyRequest>,
    pub(crate) confirms: Vec<ConfirmRequest>,
    /// Those that were answered as accepted, and those that were not.
    pub(crate) acknowledged: Vec<AcknowledgeBindingRequest>,
    pub(crate) krd: Option<Certificate>,
    pub(crate) krd_tls: Option<Certificate>,
}

struct Shared {
    script: Mutex<Script>,
    token: Token,
    masters: [(SecretKey, Kcv); 2],
}

/// The host, running.
pub(crate) struct ScriptedHost {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
}

impl ScriptedHost {
    /// To be called inside of a runtime.
    pub(crate) async fn start() -> Self {
        let token = new_token("host");
        let identity = tls_identity(&token);
        let masters = [1, 2].map(|number| master_key(&token, number));
        let shared = Arc::new(Shared {
            script: Mutex::new(Script {
                profile: Profile::X9_2019,
                kdh: TODAY.kdh.clone(),
                kdh_key: &TODAY.kdh_key,
                crl: TODAY.ca_kdh.crl(TODAY.now, |_| {}),
                assignments: Vec::new(),
                lose_enroll: false,
                alter_enroll: |_| {},
                alter_order: |_| {},
                alter_answer: |_| {},
                confirmations: VecDeque::new(),
                ordered: None,
                alter_move: |_| {},
                authority_token: None,
                acknowledgements: VecDeque::new(),
                enrolls: Vec::new(),
                requests: Vec::new(),
                confirms: Vec::new(),
                acknowledged: Vec::new(),
                krd: None,
                krd_tls: None,
            }),
            token,
            masters,
        });
        let clients = ClientAuthentication::Optional(TODAY.ca_krd.certificate.clone());
        let config = server_config(&identity, &clients, 8).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = AcceptLimits {
            connections: 8,
            connections_per_address: 8,
            connections_per_key: 8,
            handshake: Duration::from_secs(10),
            silence: Duration::from_mins(1),
            anonymous: Duration::from_mins(1),
        };
        let connections = accept(listener, Arc::new(config), limits);
        let service = KeyDistributionServer::new(Service(Arc::clone(&shared)));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(connections),
        );
        Self { shared, address }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }

    /// Changes the script for what follows.
    pub(crate) fn direct(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script());
    }

    /// From now on it signs as this KDH.
    pub(crate) fn play(&self, kdh: &Certificate, key: &'static SoftSigner) {
        let mut script = self.script();
        (script.kdh, script.kdh_key) = (kdh.clone(), key);
    }

    /// Assigns a key to a slot, in place of an earlier one.
    pub(crate) fn assign(&self, slot: &str, key_version: u32) {
        let mut script = self.script();
        script.assignments.retain(|assigned| assigned.slot != slot);
        script.assignments.push(Assignment {
            slot: slot.to_owned(),
            key_version,
            header: HEADER.to_owned(),
            kcv: Some(self.kcv_on_wire(0)),
            confirmed: false,
            initial_key_id: Vec::new(),
        });
    }

    pub(crate) fn kcv(&self, master: usize) -> &Kcv {
        &self.shared.masters[master].1
    }

    /// The file of a one-pass key token.
    pub(crate) fn one_pass(
        &self,
        slot: &str,
        key_version: u32,
        signed_at: OffsetDateTime,
        change: impl FnOnce(&mut Order),
    ) -> String {
        let script = self.script();
        let mut order = order(&script, Freshness::SigningTime(signing_time(signed_at)));
        change(&mut order);
        let kt_kdh = Service(Arc::clone(&self.shared)).key_token(&script, &order);
        let lines = format!(
            "Device: {SERIAL}\nSlot: {slot}\nKey-Version: {key_version}\n\
             Delivery: file-{slot}-{key_version}\nHeader: {}\nKCV: {} (AES_CMAC)\n\n",
            order.outside,
            self.kcv(order.master),
        );
        lines + &pem(&kt_kdh)
    }

    fn kcv_on_wire(&self, master: usize) -> KeyCheckValue {
        on_wire(self.kcv(master))
    }
}

/// As RFC 7468 has it.
pub(crate) fn pem(token: &[u8]) -> String {
    der::pem::encode_string("CMS", der::pem::LineEnding::LF, token).unwrap()
}

fn order(script: &Script, freshness: Freshness) -> Order {
    Order {
        freshness,
        inside: HEADER,
        outside: HEADER,
        recipient: script.krd.clone().unwrap(),
        signer: script.kdh_key,
        said_cipher: None,
        master: 0,
    }
}

fn move_order(script: &Script, rt_krd: &[u8]) -> MoveOrder {
    let rt_krd = RandomToken::parse(script.profile, rt_krd).unwrap();
    let mut order = MoveOrder {
        nonce: rt_krd.nonce().clone(),
        krd: script.krd.clone().unwrap(),
        new_kdh: TODAY.other_kdh.clone(),
        signer: script.kdh.clone(),
        key: script.kdh_key,
    };
    (script.alter_move)(&mut order);
    order
}

fn on_wire(kcv: &Kcv) -> KeyCheckValue {
    KeyCheckValue {
        method: Method::AesCmac.into(),
        value: kcv.value().to_vec(),
    }
}

fn tls_identity(token: &Token) -> TlsIdentity {
    let name = KeyName::new("host-tls").unwrap();
    let key = token
        .generate_key_pair(KeyRole::TlsServer, &name, KeyPairKind::P256)
        .unwrap();
    let certificate = TODAY
        .ca_ops
        .certify(TODAY.now, Role::HostTls, "host", &key, |_| {});
    TlsIdentity {
        chain: vec![certificate],
        key: token.signing_key(KeyRole::TlsServer, &name).unwrap(),
    }
}

/// A master key from two components. Its check value is learned from a first try with a wrong one.
fn master_key(token: &Token, number: u8) -> (SecretKey, Kcv) {
    let name = KeyName::new(&format!("kn.{number}")).unwrap();
    let combine = |expected: &Kcv| {
        let mut combination = token.combine_components(KeyKind::Aes128).unwrap();
        for halves in [[0x10 + number, 0x20 + number], [0x7B, 0x6C]] {
            let component = halves.map(|byte| [byte; 8]);
            let component = ClearKey::copy_from(component.as_flattened());
            combination.add(component).unwrap();
        }
        combination.finish(&name, expected)
    };
    let guess = Kcv::new(KcvMethod::AesCmac, &[0; 3]).unwrap();
    match combine(&guess) {
        Err(HsmError::KcvMismatch { found, .. }) => (combine(&found).unwrap(), found),
        other => panic!("{other:?}"),
    }
}

struct Service(Arc<Shared>);

impl Service {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap()
    }

    /// Every call but Enroll comes over the terminal's own TLS certificate.
    fn require_terminal<T>(&self, request: &Request<T>) {
        let peer = request.peer_certs().expect("a client certificate");
        let script = self.script();
        assert_eq!(&*peer[0], script.krd_tls.as_ref().unwrap().der());
    }
}

fn refused(reason: Reason) -> Status {
    reason.into_status("", "correlation-1", None)
}

fn lost() -> Status {
    Status::unavailable("the line went dead")
}

#[tonic::async_trait]
impl KeyDistribution for Service {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        assert!(request.peer_certs().is_none());
        let request = request.into_inner();
        let mut script = self.script();
        script.enrolls.push(request.clone());
        if request.activation_code != CODE {
            return Err(refused(Reason::EnrollmentRefused));
        }
        let certify = |csr: &[u8], expected, role| {
            let csr = verify_csr(csr, expected).unwrap();
            let serial = &request.serial_number;
            TODAY
                .ca_krd
                .certify(TODAY.now, role, serial, csr.public_key(), |_| {})
        };
        let encryption = CsrKey::Encryption { min_rsa_bits: 2048 };
        let krd = certify(&request.encryption_csr, encryption, Role::Krd);
        let krd_tls = certify(
            &request.authentication_csr,
            CsrKey::Authentication,
            Role::KrdTls,
        );
        let mut answer = EnrollResponse {
            ct_krd: KrdCredentialToken::new(krd.der())
                .unwrap()
                .to_der(script.profile),
            authentication_certificate: krd_tls.der().to_vec(),
            chain: vec![TODAY.ca_krd.certificate.der().to_vec()],
        };
        (script.krd, script.krd_tls) = (Some(krd), Some(krd_tls));
        if std::mem::take(&mut script.lose_enroll) {
            return Err(lost());
        }
        (script.alter_enroll)(&mut answer);
        Ok(Response::new(answer))
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        self.require_terminal(&request);
        let script = self.script();
        let ct_krd = KrdCredentialToken::parse(script.profile, &request.get_ref().ct_krd).unwrap();
        assert_eq!(ct_krd.certificate(), script.krd.as_ref().unwrap().der());
        let ct_kdh = KdhCredentialToken::new(script.kdh.der(), &script.crl).unwrap();
        Ok(Response::new(BindResponse {
            ct_kdh: ct_kdh.to_der(script.profile),
        }))
    }

    async fn list_assignments(
        &self,
        request: Request<ListAssignmentsRequest>,
    ) -> Result<Response<ListAssignmentsResponse>, Status> {
        self.require_terminal(&request);
        let script = self.script();
        Ok(Response::new(ListAssignmentsResponse {
            assignments: script.assignments.clone(),
            order: script
                .ordered
                .map(|kind| BindingOrder { kind: kind.into() }),
        }))
    }

    async fn request_key(
        &self,
        request: Request<RequestKeyRequest>,
    ) -> Result<Response<RequestKeyResponse>, Status> {
        self.require_terminal(&request);
        let request = request.into_inner();
        let mut script = self.script();
        let assigned = script
            .assignments
            .iter()
            .find(|assigned| assigned.slot == request.slot)
            .unwrap()
            .clone();
        let rt_krd = RandomToken::parse(script.profile, &request.rt_krd).unwrap();
        let mut order = order(&script, Freshness::Nonce(rt_krd.nonce().clone()));
        script.requests.push(request);
        (script.alter_order)(&mut order);
        let (_, kcv) = &self.0.masters[order.master];
        let mut answer = RequestKeyResponse {
            kt_kdh: self.key_token(&script, &order),
            delivery_id: format!("delivery-{}", script.requests.len()),
            key_version: assigned.key_version,
            kcv: Some(on_wire(kcv)),
        };
        (script.alter_answer)(&mut answer);
        Ok(Response::new(answer))
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        self.require_terminal(&request);
        let mut script = self.script();
        script.confirms.push(request.into_inner());
        let confirmation = script.confirmations.pop_front();
        if let Some(Confirmation::Refused(reason)) = confirmation {
            return Err(refused(reason));
        }
        for assigned in &mut script.assignments {
            assigned.confirmed = true;
        }
        match confirmation {
            Some(Confirmation::Lost) => Err(lost()),
            _ => Ok(Response::new(ConfirmResponse {})),
        }
    }

    async fn request_unbind(
        &self,
        request: Request<RequestUnbindRequest>,
    ) -> Result<Response<RequestUnbindResponse>, Status> {
        self.require_terminal(&request);
        let script = self.script();
        if script.ordered != Some(Kind::Unbind) {
            return Err(refused(Reason::NotOrdered));
        }
        let order = move_order(&script, &request.get_ref().rt_krd);
        let draft = KdhUnbindToken::draft(
            script.profile,
            &id(&order.krd),
            &order.nonce,
            signing_time(TODAY.now),
            &id(&order.signer),
            &script.crl,
        );
        Ok(Response::new(RequestUnbindResponse {
            ubt_kdh: sign(draft.unwrap(), order.key),
        }))
    }

    async fn request_rebind(
        &self,
        request: Request<RequestRebindRequest>,
    ) -> Result<Response<RequestRebindResponse>, Status> {
        self.require_terminal(&request);
        let script = self.script();
        if script.ordered != Some(Kind::Rebind) {
            return Err(refused(Reason::NotOrdered));
        }
        let order = move_order(&script, &request.get_ref().rt_krd);
        let draft = KdhRebindToken::draft(
            script.profile,
            &id(&order.krd),
            order.new_kdh.der(),
            &order.nonce,
            signing_time(TODAY.now),
            &id(&order.signer),
            &script.crl,
        );
        Ok(Response::new(RequestRebindResponse {
            rbt_kdh: sign(draft.unwrap(), order.key),
        }))
    }

    async fn fetch_authority_token(
        &self,
        request: Request<FetchAuthorityTokenRequest>,
    ) -> Result<Response<FetchAuthorityTokenResponse>, Status> {
        self.require_terminal(&request);
        match self.script().authority_token.clone() {
            None => Err(refused(Reason::NoAuthorityToken)),
            token => Ok(Response::new(FetchAuthorityTokenResponse { token })),
        }
    }

    /// Once it is accepted, the host signs as the KDH that the terminal is bound to.
    async fn acknowledge_binding(
        &self,
        request: Request<AcknowledgeBindingRequest>,
    ) -> Result<Response<AcknowledgeBindingResponse>, Status> {
        self.require_terminal(&request);
        let mut script = self.script();
        let request = request.into_inner();
        let receipt = request.receipt.clone().unwrap();
        script.acknowledged.push(request);
        let answer = script.acknowledgements.pop_front();
        if let Some(Confirmation::Refused(reason)) = answer {
            return Err(refused(reason));
        }
        script.ordered = None;
        let statement = BindingStatement::decode(receipt.statement.as_slice()).unwrap();
        if statement.kdh == id(&TODAY.other_kdh).to_der() {
            (script.kdh, script.kdh_key) = (TODAY.other_kdh.clone(), &TODAY.other_kdh_key);
        }
        match answer {
            Some(Confirmation::Lost) => Err(lost()),
            _ => Ok(Response::new(AcknowledgeBindingResponse {})),
        }
    }
}

impl Service {
    fn key_token(&self, script: &Script, order: &Order) -> Vec<u8> {
        let kdh = id(&script.kdh);
        let (master, _) = &self.0.masters[order.master];
        let inside = header(order.inside);
        let sealed = self
            .0
            .token
            .seal(
                master,
                &SealRequest {
                    frame: &KeyBlockFrame::new(script.profile, &kdh, &inside, 16),
                    recipient: order.recipient.public_key(),
                    cipher: ContentCipher::Aes128Cbc,
                    oaep: OaepHash::Sha1,
                },
            )
            .unwrap();
        let said = |cipher: ContentCipher| {
            let iv = &sealed.encryption.iv()[..cipher.block_len()];
            cipher.with_iv(iv).unwrap()
        };
        let encryption = order.said_cipher.map_or(sealed.encryption, said);
        let enveloped = EnvelopedKeyBlock::new(
            id(&order.recipient),
            OaepHash::Sha1,
            sealed.encrypted_key,
            encryption,
            sealed.ciphertext,
        )
        .unwrap();
        let draft = KeyToken::draft(
            script.profile,
            &enveloped,
            &header(order.outside),
            &order.freshness,
            signing_time(TODAY.now),
            &kdh,
            &script.crl,
        );
        sign(draft.unwrap(), order.signer)
    }
}
