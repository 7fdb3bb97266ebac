//! What operators call.

use kdh_proto::v1::{
    ActivationCode, AddDeviceRequest, AdmitDeviceRequest, ApproveAuthorityRequestRequest,
    ApproveKeyImportRequest, AskAuthorityRequest, AskKeyImportRequest, AssignKeyProfileRequest,
    AssignKeyRequest, Assignment, AuthorityRequest, CancelOrderRequest, Delivery, Device,
    DeviceExport, ExportAuthorityTokenRequest, ExportAuthorityTokenResponse, ExportDeviceRequest,
    IssueActivationCodeRequest, Kdh, Key, KeyImport, KeyProfileChange, KeyProfileVersion,
    ListAuditRecordsRequest, ListAuditRecordsResponse, ListAuthorityRequestsRequest,
    ListAuthorityRequestsResponse, ListDeliveriesRequest, ListDeliveriesResponse,
    ListDeviceGroupsRequest, ListDeviceGroupsResponse, ListDevicesRequest, ListDevicesResponse,
    ListKdhsRequest, ListKdhsResponse, ListKeyImportsRequest, ListKeyImportsResponse,
    ListKeyProfilesRequest, ListKeyProfilesResponse, ListKeysRequest, ListKeysResponse,
    MakeImportNonceRequest, MakeImportNonceResponse, MakeOnePassTokenRequest,
    MakeOnePassTokenResponse, Order, OrderRebindRequest, OrderUnbindRequest, PutKeyProfileRequest,
    RegisterKeyRequest, RejectAuthorityRequestRequest, RejectKeyImportRequest,
    RemoveKeyProfileRequest, ResumeDeviceRequest, RevokeDeviceRequest, SetDeviceGroupRequest,
    SetDeviceGroupResponse, ShowDeviceRequest, ShowDeviceResponse, ShowKeyProfileRequest,
    ShowKeyProfileResponse, SuspendDeviceRequest, administration_server::Administration,
};
use pki::Certificate;
use tonic::{Request, Response, Status};
use tr34::IssuerAndSerial;

use super::{
    end,
    key_distribution::{assignment_message, assignment_of_key},
    key_profiles::{
        change_message, group_message, grouped_message, list_message, shown_message,
        version_message,
    },
    refused_keys::row_message,
};
use crate::{
    Host, HostError,
    administration::{self as domain, KeyRegistration, Operator},
    admission, authority,
    config::OperatorRole::{self, Audit, Fleet, Keys, Recovery},
    delivery::{self, ProvenAssignment, kcv_message, parse_kcv},
    kdh::{self, KdhStanding},
    key_import, key_profile, key_sender, orders,
    state::{BindingChange, DeviceEvent},
    store,
};

/// The operators' service.
pub(crate) struct AdministrationService(pub(crate) Host);

impl AdministrationService {
    async fn operator<T>(
        &self,
        request: &Request<T>,
        call: &'static str,
        allowed: &[OperatorRole],
    ) -> Result<Operator, HostError> {
        super::operator(&self.0, request, call, allowed).await
    }

    async fn move_device(
        &self,
        call: &'static str,
        operator: Result<Operator, HostError>,
        serial: &str,
        event: DeviceEvent,
        why: &str,
    ) -> Result<Device, HostError> {
        let operator = operator?;
        let act = domain::move_device(&self.0, &operator, serial, event, why);
        let device = domain::on_record(&self.0, &operator, call, act).await?;
        self.with_certificate(&device).await
    }

    async fn order(
        &self,
        call: &'static str,
        operator: Result<Operator, HostError>,
        serial: &str,
        change: BindingChange<&[u8]>,
        why: &str,
    ) -> Result<Device, HostError> {
        let operator = operator?;
        let act = orders::order(&self.0, &operator, serial, change, why);
        let device = domain::on_record(&self.0, &operator, call, act).await?;
        self.with_certificate(&device).await
    }

    /// A device as it is shown after an act.
    async fn with_certificate(&self, device: &store::Device) -> Result<Device, HostError> {
        let details = domain::show_device(&self.0, device.serial.as_str()).await?;
        Ok(details_message(&details))
    }
}

#[tonic::async_trait]
impl Administration for AdministrationService {
    async fn add_device(
        &self,
        request: Request<AddDeviceRequest>,
    ) -> Result<Response<Device>, Status> {
        let call = async {
            let operator = self.operator(&request, "AddDevice", &[Fleet]).await?;
            let request = request.get_ref();
            let serial = &request.serial_number;
            let act = domain::add_device(&self.0, &operator, serial, &request.model);
            let device = domain::on_record(&self.0, &operator, "AddDevice", act).await?;
            Ok(device_message(&device))
        };
        end("AddDevice", call.await)
    }

    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        let call = async {
            self.operator(&request, "ListDevices", &[Fleet, Audit])
                .await?;
            let devices = domain::list_devices(&self.0, request.get_ref()).await?;
            Ok(ListDevicesResponse {
                devices: devices.iter().map(device_message).collect(),
            })
        };
        end("ListDevices", call.await)
    }

    async fn show_device(
        &self,
        request: Request<ShowDeviceRequest>,
    ) -> Result<Response<ShowDeviceResponse>, Status> {
        let call = async {
            // Who assigns keys has to see to which key of the device.
            self.operator(&request, "ShowDevice", &[Fleet, Keys, Audit])
                .await?;
            let details = domain::show_device(&self.0, &request.get_ref().serial_number).await?;
            let (meant, withheld): (Vec<_>, Vec<_>) = details
                .assignments
                .iter()
                .partition(|assignment| assignment.meant_for_present_key);
            let messages = |assignments: Vec<&ProvenAssignment>| {
                let messages = assignments.into_iter().map(assignment_message);
                messages.collect::<Vec<_>>()
            };
            let certificate = details.certificate.as_ref();
            let profile = details.profile.as_ref();
            Ok(ShowDeviceResponse {
                device: Some(details_message(&details)),
                assignments: messages(meant),
                withheld: messages(withheld),
                encryption_key_sha256: certificate
                    .map(|certificate| hex::encode(certificate.public_key().fingerprint()))
                    .unwrap_or_default(),
                order: details.order.as_ref().map(order_message).transpose()?,
                profile_name: profile
                    .map(|(_, version)| version.name.to_string())
                    .unwrap_or_default(),
                profile_target: profile.map(|(target, _)| target.to_message()),
                refused: details.refused.into_iter().map(row_message).collect(),
                expired_slots: details.expired.iter().map(ToString::to_string).collect(),
            })
        };
        end("ShowDevice", call.await)
    }

    async fn suspend_device(
        &self,
        request: Request<SuspendDeviceRequest>,
    ) -> Result<Response<Device>, Status> {
        let operator = self.operator(&request, "SuspendDevice", &[Fleet]).await;
        let request = request.get_ref();
        let (serial, why) = (&request.serial_number, &request.why);
        let outcome = self.move_device(
            "SuspendDevice",
            operator,
            serial,
            DeviceEvent::Suspended,
            why,
        );
        end("SuspendDevice", outcome.await)
    }

    async fn resume_device(
        &self,
        request: Request<ResumeDeviceRequest>,
    ) -> Result<Response<Device>, Status> {
        let operator = self.operator(&request, "ResumeDevice", &[Fleet]).await;
        let request = request.get_ref();
        let (serial, why) = (&request.serial_number, &request.why);
        let outcome = self.move_device("ResumeDevice", operator, serial, DeviceEvent::Resumed, why);
        end("ResumeDevice", outcome.await)
    }

    async fn revoke_device(
        &self,
        request: Request<RevokeDeviceRequest>,
    ) -> Result<Response<Device>, Status> {
        let operator = self.operator(&request, "RevokeDevice", &[Fleet]).await;
        let request = request.get_ref();
        let (serial, why) = (&request.serial_number, &request.why);
        let outcome = self.move_device("RevokeDevice", operator, serial, DeviceEvent::Revoked, why);
        end("RevokeDevice", outcome.await)
    }

    async fn order_unbind(
        &self,
        request: Request<OrderUnbindRequest>,
    ) -> Result<Response<Device>, Status> {
        let operator = self.operator(&request, "OrderUnbind", &[Fleet]).await;
        let request = request.get_ref();
        let (serial, why) = (&request.serial_number, &request.why);
        let outcome = self.order("OrderUnbind", operator, serial, BindingChange::Unbind, why);
        end("OrderUnbind", outcome.await)
    }

    async fn order_rebind(
        &self,
        request: Request<OrderRebindRequest>,
    ) -> Result<Response<Device>, Status> {
        let operator = self.operator(&request, "OrderRebind", &[Fleet]).await;
        let request = request.get_ref();
        let (serial, why) = (&request.serial_number, &request.why);
        let change = BindingChange::Rebind(&request.new_kdh[..]);
        let outcome = self.order("OrderRebind", operator, serial, change, why);
        end("OrderRebind", outcome.await)
    }

    async fn export_device(
        &self,
        request: Request<ExportDeviceRequest>,
    ) -> Result<Response<DeviceExport>, Status> {
        let call = async {
            let operator = self.operator(&request, "ExportDevice", &[Fleet]).await?;
            let act = admission::export(&self.0, &request.get_ref().serial_number);
            domain::on_record(&self.0, &operator, "ExportDevice", act).await
        };
        end("ExportDevice", call.await)
    }

    async fn admit_device(
        &self,
        request: Request<AdmitDeviceRequest>,
    ) -> Result<Response<Device>, Status> {
        let call = async {
            let operator = self.operator(&request, "AdmitDevice", &[Fleet]).await?;
            let device = request.into_inner().device.unwrap_or_default();
            let act = admission::admit(&self.0, &operator, &device);
            let device = domain::on_record(&self.0, &operator, "AdmitDevice", act).await?;
            self.with_certificate(&device).await
        };
        end("AdmitDevice", call.await)
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<Device>, Status> {
        let call = async {
            let operator = self.operator(&request, "CancelOrder", &[Fleet]).await?;
            let act = orders::cancel(&self.0, &operator, &request.get_ref().serial_number);
            let device = domain::on_record(&self.0, &operator, "CancelOrder", act).await?;
            self.with_certificate(&device).await
        };
        end("CancelOrder", call.await)
    }

    async fn ask_authority(
        &self,
        request: Request<AskAuthorityRequest>,
    ) -> Result<Response<AuthorityRequest>, Status> {
        let call = async {
            let operator = self.operator(&request, "AskAuthority", &[Recovery]).await?;
            let request = request.get_ref();
            let (serial, kdh, why) = (&request.serial_number, &request.kdh, &request.why);
            let change = match &request.new_kdh[..] {
                [] => BindingChange::Unbind,
                new_kdh => BindingChange::Rebind(new_kdh),
            };
            let act = authority::ask(&self.0, &operator, serial, change, kdh, why);
            let asked = domain::on_record(&self.0, &operator, "AskAuthority", act).await?;
            authority_message(asked)
        };
        end("AskAuthority", call.await)
    }

    async fn list_authority_requests(
        &self,
        request: Request<ListAuthorityRequestsRequest>,
    ) -> Result<Response<ListAuthorityRequestsResponse>, Status> {
        let call = async {
            self.operator(&request, "ListAuthorityRequests", &[Recovery, Audit])
                .await?;
            let request = request.get_ref();
            let requests = authority::list(&self.0, &request.before, request.limit).await?;
            let requests: Result<_, HostError> =
                requests.into_iter().map(authority_message).collect();
            Ok(ListAuthorityRequestsResponse {
                requests: requests?,
            })
        };
        end("ListAuthorityRequests", call.await)
    }

    async fn approve_authority_request(
        &self,
        request: Request<ApproveAuthorityRequestRequest>,
    ) -> Result<Response<AuthorityRequest>, Status> {
        const CALL: &str = "ApproveAuthorityRequest";
        let call = async {
            let operator = self.operator(&request, CALL, &[Recovery]).await?;
            let act = authority::approve(&self.0, &operator, &request.get_ref().id);
            authority_message(domain::on_record(&self.0, &operator, CALL, act).await?)
        };
        end(CALL, call.await)
    }

    async fn reject_authority_request(
        &self,
        request: Request<RejectAuthorityRequestRequest>,
    ) -> Result<Response<AuthorityRequest>, Status> {
        const CALL: &str = "RejectAuthorityRequest";
        let call = async {
            let operator = self.operator(&request, CALL, &[Recovery]).await?;
            let act = authority::reject(&self.0, &operator, &request.get_ref().id);
            authority_message(domain::on_record(&self.0, &operator, CALL, act).await?)
        };
        end(CALL, call.await)
    }

    async fn export_authority_token(
        &self,
        request: Request<ExportAuthorityTokenRequest>,
    ) -> Result<Response<ExportAuthorityTokenResponse>, Status> {
        const CALL: &str = "ExportAuthorityToken";
        let call = async {
            let operator = self.operator(&request, CALL, &[Recovery]).await?;
            let act = authority::export(&self.0, &operator, &request.get_ref().id);
            let (request, token) = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(ExportAuthorityTokenResponse {
                request: Some(authority_message(request)?),
                token,
            })
        };
        end(CALL, call.await)
    }

    async fn issue_activation_code(
        &self,
        request: Request<IssueActivationCodeRequest>,
    ) -> Result<Response<ActivationCode>, Status> {
        let call = async {
            let operator = self
                .operator(&request, "IssueActivationCode", &[Fleet])
                .await?;
            let serial = &request.get_ref().serial_number;
            let act = domain::issue_activation_code(&self.0, &operator, serial);
            let (code, expires_at) =
                domain::on_record(&self.0, &operator, "IssueActivationCode", act).await?;
            Ok(ActivationCode {
                code,
                expires_at: store::time_text(expires_at)?,
            })
        };
        end("IssueActivationCode", call.await)
    }

    async fn register_key(
        &self,
        request: Request<RegisterKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let call = async {
            let operator = self.operator(&request, "RegisterKey", &[Keys]).await?;
            let request = request.get_ref();
            let registration = KeyRegistration {
                name: &request.name,
                hsm_label: &request.hsm_label,
                header: &request.header,
                kcv: parse_kcv(request.kcv.as_ref()),
            };
            let act = domain::register_key(&self.0, &operator, registration);
            let key = domain::on_record(&self.0, &operator, "RegisterKey", act).await?;
            Ok(key_message(&key))
        };
        end("RegisterKey", call.await)
    }

    async fn ask_key_import(
        &self,
        request: Request<AskKeyImportRequest>,
    ) -> Result<Response<KeyImport>, Status> {
        const CALL: &str = "AskKeyImport";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_import::ask(&self.0, &operator, request.get_ref());
            import_message(
                &self.0,
                domain::on_record(&self.0, &operator, CALL, act).await?,
            )
        };
        end(CALL, call.await)
    }

    async fn make_import_nonce(
        &self,
        request: Request<MakeImportNonceRequest>,
    ) -> Result<Response<MakeImportNonceResponse>, Status> {
        const CALL: &str = "MakeImportNonce";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_sender::make_nonce(&self.0, &operator, &request.get_ref().sender);
            let nonce = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(MakeImportNonceResponse {
                nonce: nonce.as_bytes().to_vec(),
                rt_krd: key_sender::random_token(nonce),
            })
        };
        end(CALL, call.await)
    }

    async fn list_key_imports(
        &self,
        request: Request<ListKeyImportsRequest>,
    ) -> Result<Response<ListKeyImportsResponse>, Status> {
        const CALL: &str = "ListKeyImports";
        let call = async {
            self.operator(&request, CALL, &[Keys, Audit]).await?;
            let request = request.get_ref();
            let imports = key_import::list(&self.0, &request.before, request.limit).await?;
            let imports: Result<_, HostError> = imports
                .into_iter()
                .map(|import| import_message(&self.0, import))
                .collect();
            Ok(ListKeyImportsResponse { imports: imports? })
        };
        end(CALL, call.await)
    }

    async fn approve_key_import(
        &self,
        request: Request<ApproveKeyImportRequest>,
    ) -> Result<Response<KeyImport>, Status> {
        const CALL: &str = "ApproveKeyImport";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let _place = self.0.limits().imports.take()?;
            let act = key_import::approve(&self.0, &operator, &request.get_ref().id);
            import_message(
                &self.0,
                domain::on_record(&self.0, &operator, CALL, act).await?,
            )
        };
        end(CALL, call.await)
    }

    async fn reject_key_import(
        &self,
        request: Request<RejectKeyImportRequest>,
    ) -> Result<Response<KeyImport>, Status> {
        const CALL: &str = "RejectKeyImport";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_import::reject(&self.0, &operator, &request.get_ref().id);
            import_message(
                &self.0,
                domain::on_record(&self.0, &operator, CALL, act).await?,
            )
        };
        end(CALL, call.await)
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let call = async {
            self.operator(&request, "ListKeys", &[Keys, Audit]).await?;
            let keys = domain::list_keys(&self.0).await?;
            Ok(ListKeysResponse {
                keys: keys.iter().map(|key| key_message(key)).collect(),
            })
        };
        end("ListKeys", call.await)
    }

    async fn list_kdhs(
        &self,
        request: Request<ListKdhsRequest>,
    ) -> Result<Response<ListKdhsResponse>, Status> {
        let call = async {
            self.operator(&request, "ListKdhs", &[Fleet, Keys, Audit])
                .await?;
            let kdhs = kdh::list(&self.0).await?;
            Ok(ListKdhsResponse {
                kdhs: kdhs.iter().map(kdh_message).collect(),
            })
        };
        end("ListKdhs", call.await)
    }

    async fn assign_key(
        &self,
        request: Request<AssignKeyRequest>,
    ) -> Result<Response<Assignment>, Status> {
        let call = async {
            let operator = self.operator(&request, "AssignKey", &[Keys]).await?;
            let request = request.get_ref();
            let act = domain::assign_key(&self.0, &operator, request);
            let assignment = domain::on_record(&self.0, &operator, "AssignKey", act).await?;
            Ok(assignment_of_key(&assignment, false))
        };
        end("AssignKey", call.await)
    }

    async fn put_key_profile(
        &self,
        request: Request<PutKeyProfileRequest>,
    ) -> Result<Response<KeyProfileChange>, Status> {
        const CALL: &str = "PutKeyProfile";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_profile::put(&self.0, &operator, request.get_ref());
            let change = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(change_message(&change))
        };
        end(CALL, call.await)
    }

    async fn assign_key_profile(
        &self,
        request: Request<AssignKeyProfileRequest>,
    ) -> Result<Response<KeyProfileChange>, Status> {
        const CALL: &str = "AssignKeyProfile";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_profile::assign(&self.0, &operator, request.get_ref());
            let change = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(change_message(&change))
        };
        end(CALL, call.await)
    }

    async fn remove_key_profile(
        &self,
        request: Request<RemoveKeyProfileRequest>,
    ) -> Result<Response<KeyProfileVersion>, Status> {
        const CALL: &str = "RemoveKeyProfile";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_profile::remove(&self.0, &operator, request.get_ref());
            let version = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(version_message(&version))
        };
        end(CALL, call.await)
    }

    async fn list_key_profiles(
        &self,
        request: Request<ListKeyProfilesRequest>,
    ) -> Result<Response<ListKeyProfilesResponse>, Status> {
        const CALL: &str = "ListKeyProfiles";
        let call = async {
            self.operator(&request, CALL, &[Keys, Audit]).await?;
            Ok(list_message(&key_profile::list(&self.0).await?))
        };
        end(CALL, call.await)
    }

    async fn show_key_profile(
        &self,
        request: Request<ShowKeyProfileRequest>,
    ) -> Result<Response<ShowKeyProfileResponse>, Status> {
        const CALL: &str = "ShowKeyProfile";
        let call = async {
            self.operator(&request, CALL, &[Keys, Audit]).await?;
            let ShowKeyProfileRequest {
                profile_name,
                version,
            } = request.get_ref();
            let shown = key_profile::show(&self.0, profile_name, *version).await?;
            Ok(shown_message(&shown))
        };
        end(CALL, call.await)
    }

    async fn set_device_group(
        &self,
        request: Request<SetDeviceGroupRequest>,
    ) -> Result<Response<SetDeviceGroupResponse>, Status> {
        const CALL: &str = "SetDeviceGroup";
        let call = async {
            let operator = self.operator(&request, CALL, &[Keys]).await?;
            let act = key_profile::groups::set(&self.0, &operator, request.get_ref());
            let grouped = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(grouped_message(&grouped))
        };
        end(CALL, call.await)
    }

    async fn list_device_groups(
        &self,
        request: Request<ListDeviceGroupsRequest>,
    ) -> Result<Response<ListDeviceGroupsResponse>, Status> {
        const CALL: &str = "ListDeviceGroups";
        let call = async {
            self.operator(&request, CALL, &[Keys, Audit]).await?;
            let groups = key_profile::groups::list(&self.0).await?;
            Ok(ListDeviceGroupsResponse {
                groups: groups.iter().map(group_message).collect(),
            })
        };
        end(CALL, call.await)
    }

    async fn make_one_pass_token(
        &self,
        request: Request<MakeOnePassTokenRequest>,
    ) -> Result<Response<MakeOnePassTokenResponse>, Status> {
        let call = async {
            let operator = self.operator(&request, "MakeOnePassToken", &[Keys]).await?;
            let MakeOnePassTokenRequest {
                serial_number,
                slot,
            } = request.get_ref();
            let act = delivery::make_one_pass(&self.0, &operator, serial_number, slot);
            let issued = domain::on_record(&self.0, &operator, "MakeOnePassToken", act).await?;
            Ok(MakeOnePassTokenResponse {
                kt_kdh: issued.kt_kdh,
                delivery_id: issued.delivery_id,
                key_version: issued.version,
                header: issued.header.to_string(),
                kcv: Some(kcv_message(&issued.kcv)),
                expires_at: store::time_text(issued.expires_at)?,
            })
        };
        end("MakeOnePassToken", call.await)
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let call = async {
            self.operator(&request, "ListDeliveries", &[Fleet, Keys, Audit])
                .await?;
            let request = request.get_ref();
            let (serial, before) = (&request.serial_number, &request.before);
            let deliveries =
                domain::list_deliveries(&self.0, serial, before, request.limit).await?;
            Ok(ListDeliveriesResponse {
                deliveries: deliveries.into_iter().map(delivery_message).collect(),
            })
        };
        end("ListDeliveries", call.await)
    }

    async fn list_audit_records(
        &self,
        request: Request<ListAuditRecordsRequest>,
    ) -> Result<Response<ListAuditRecordsResponse>, Status> {
        let call = async {
            self.operator(&request, "ListAuditRecords", &[Audit])
                .await?;
            let request = request.get_ref();
            let records = domain::list_audit_records(&self.0, request.after, request.limit).await?;
            Ok(ListAuditRecordsResponse { records })
        };
        end("ListAuditRecords", call.await)
    }
}

fn device_message(device: &store::Device) -> Device {
    Device {
        serial_number: device.serial.to_string(),
        model: device.model.clone(),
        state: device.state.as_str().to_owned(),
        created_at: device.created_at.clone(),
        changed_at: device.changed_at.clone(),
        certificate_serial: String::new(),
        bound_kdh: device.bound_kdh.as_ref().map(serial_of).unwrap_or_default(),
        keys: device
            .keys_fate
            .map(|fate| fate.as_str().to_owned())
            .unwrap_or_default(),
        group: device
            .group
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

fn serial_of(kdh: &IssuerAndSerial) -> String {
    hex::encode_upper(kdh.serial_bytes())
}

/// The KDH that takes over, as operators know it.
fn new_kdh(change: &BindingChange<Vec<u8>>) -> Result<String, HostError> {
    let Some(der) = change.new_kdh() else {
        return Ok(String::new());
    };
    let certificate = Certificate::from_der(der);
    let certificate = certificate.map_err(|error| HostError::Internal(error.to_string()))?;
    Ok(format!(
        "{}, serial number {}",
        certificate.subject(),
        certificate.serial()
    ))
}

fn order_message(order: &store::BindingOrder) -> Result<Order, HostError> {
    Ok(Order {
        kind: order.change.kind().as_str().to_owned(),
        new_kdh: new_kdh(&order.change)?,
        ordered_by: order.ordered_by.clone(),
        why: order.why.clone(),
        created_at: order.created_at.clone(),
    })
}

fn authority_message(request: store::AuthorityRequest) -> Result<AuthorityRequest, HostError> {
    let state = request.state_now().as_str().to_owned();
    Ok(AuthorityRequest {
        state,
        kind: request.change.kind().as_str().to_owned(),
        kdh: serial_of(&request.kdh),
        new_kdh: new_kdh(&request.change)?,
        id: request.id,
        serial_number: request.device.to_string(),
        certificate_serial: request.certificate,
        asked_by: request.asked_by,
        why: request.why,
        decided_by: request.decided_by.unwrap_or_default(),
        created_at: request.created_at,
        changed_at: request.changed_at,
        expires_at: request.expires_at,
    })
}

fn details_message(details: &domain::DeviceDetails) -> Device {
    let certificate = details.certificate.as_ref();
    Device {
        certificate_serial: certificate
            .map(|certificate| certificate.serial().to_string())
            .unwrap_or_default(),
        ..device_message(&details.device)
    }
}

fn kdh_message(kdh: &KdhStanding) -> Kdh {
    let certificate = kdh.certificate.as_ref();
    Kdh {
        serial: hex::encode_upper(kdh.id.serial_bytes()),
        name: certificate
            .and_then(Certificate::common_name)
            .unwrap_or_default(),
        state: kdh.state.as_str().to_owned(),
        devices: u64::try_from(kdh.devices).unwrap_or_default(),
        not_after: certificate
            .and_then(|certificate| store::time_text(certificate.not_after()).ok())
            .unwrap_or_default(),
    }
}

fn key_message(key: &store::StoredKey) -> Key {
    Key {
        name: key.name.to_string(),
        hsm_label: key.hsm_label.clone(),
        header: key.header.to_string(),
        kind: key.kind.to_string(),
        kcv: Some(kcv_message(&key.kcv)),
        created_at: key.created_at.clone(),
    }
}

fn import_message(host: &Host, import: store::KeyImportRequest) -> Result<KeyImport, HostError> {
    let described = key_import::describe(host, &import)?;
    Ok(KeyImport {
        form: described.form.name().to_owned(),
        sender: described.sender,
        under: described.under,
        sha256: described.sha256,
        state: import.state_now().as_str().to_owned(),
        name: import.name.to_string(),
        kind: import.kind.to_string(),
        header: import.header.to_string(),
        kcv: Some(kcv_message(&import.kcv)),
        id: import.id,
        asked_by: import.asked_by,
        why: import.why,
        decided_by: import.decided_by.unwrap_or_default(),
        created_at: import.created_at,
        changed_at: import.changed_at,
        expires_at: import.expires_at,
    })
}

fn delivery_message(delivery: store::Delivery) -> Delivery {
    let state = delivery.state_now().as_str().to_owned();
    Delivery {
        id: delivery.id,
        serial_number: delivery.device.to_string(),
        slot: delivery.slot,
        key_version: delivery.version,
        key_name: delivery.key_name.unwrap_or_default(),
        state,
        created_at: delivery.created_at,
        changed_at: delivery.changed_at,
    }
}
