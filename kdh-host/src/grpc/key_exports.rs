//! The service for exports: operators open and close targets and take files; a switch receives its stream.

use std::pin::{Pin, pin};

use futures_util::{
    Stream,
    future::{Either, select},
    stream,
};
use kdh_proto::{
    Reason,
    v1::{
        AcknowledgeFileRequest, AcknowledgeFileResponse, Approval, AskTargetRequest,
        CloseTargetRequest, CloseTargetResponse, ExportRecord, FilePart, FillTargetRequest,
        FillTargetResponse, ListTargetsRequest, ListTargetsResponse, MakeFileRequest,
        ReceiveRequest, TargetStanding, file_part::Part, key_exports_server::KeyExports,
        receive_request::Request as Asked,
    },
};
use pki::Certificate;
use tokio::{
    sync::{mpsc, watch},
    task::coop::consume_budget,
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Audience,
    approvals::{self, message},
    end, operator,
    operators::place,
    peer, status,
};
use crate::{
    Host, HostError, administration as domain,
    config::OperatorRole::{Audit, Keys, Switch},
    error::refused,
    export::{
        self,
        file::File,
        stream::{LOOK, Receiving, WINDOW, stopping},
    },
};

/// Opens, fills and closes targets, and hands out their records.
pub(crate) struct KeyExportsService(pub(crate) Host);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl KeyExports for KeyExportsService {
    type MakeFileStream = Answers<FilePart>;
    type ReceiveStream = Answers<ExportRecord>;

    async fn ask_target(
        &self,
        request: Request<AskTargetRequest>,
    ) -> Result<Response<Approval>, Status> {
        const CALL: &str = "AskTarget";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = export::ask(&self.0, &operator, request.into_inner());
            Ok(message(
                domain::on_record(&self.0, &operator, CALL, act).await?,
            ))
        };
        end(CALL, call.await)
    }

    async fn list_targets(
        &self,
        request: Request<ListTargetsRequest>,
    ) -> Result<Response<ListTargetsResponse>, Status> {
        const CALL: &str = "ListTargets";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let standings = export::list(&self.0, request.get_ref()).await?;
            Ok(ListTargetsResponse {
                targets: standings
                    .into_iter()
                    .map(|listed| listed.map_or_else(refused_target, standing))
                    .collect(),
            })
        };
        end(CALL, call.await)
    }

    async fn close_target(
        &self,
        request: Request<CloseTargetRequest>,
    ) -> Result<Response<CloseTargetResponse>, Status> {
        const CALL: &str = "CloseTarget";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let request = request.get_ref();
            let act = export::close(&self.0, &operator, &request.name, &request.why);
            let id = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(CloseTargetResponse { id })
        };
        end(CALL, call.await)
    }

    async fn fill_target(
        &self,
        request: Request<FillTargetRequest>,
    ) -> Result<Response<FillTargetResponse>, Status> {
        const CALL: &str = "FillTarget";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = export::fill(&self.0, &operator, request.get_ref());
            let filled = domain::on_record(&self.0, &operator, CALL, act).await?;
            let (last_device, last_slot) = filled.last.unwrap_or_default();
            Ok(FillTargetResponse {
                looked_at: filled.looked_at,
                queued: filled.queued,
                last_device,
                last_slot,
            })
        };
        end(CALL, call.await)
    }

    async fn make_file(
        &self,
        request: Request<MakeFileRequest>,
    ) -> Result<Response<Self::MakeFileStream>, Status> {
        const CALL: &str = "MakeFile";
        let place = place(&request)?;
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = File::begin(&self.0, &operator, request.get_ref());
            domain::on_record(&self.0, &operator, CALL, act).await
        };
        let (header, file) = call
            .await
            .map_err(|error| status(CALL, Audience::Operator, &error))?;
        let (sender, answers) = answers();
        tokio::spawn(async move {
            if let Err(error) = send_file(&sender, Part::Header(header), file).await {
                let status = status(CALL, Audience::Operator, &error);
                sender.send(Err(status)).await.ok();
            }
            // Most of the work is done behind the beginning of the answer.
            drop(place);
        });
        Ok(Response::new(answers))
    }

    async fn acknowledge_file(
        &self,
        request: Request<AcknowledgeFileRequest>,
    ) -> Result<Response<AcknowledgeFileResponse>, Status> {
        const CALL: &str = "AcknowledgeFile";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let request = request.get_ref();
            let (name, position) = (&request.name, request.position);
            let act = export::acknowledge_file(&self.0, &operator, name, position);
            let acknowledged = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(AcknowledgeFileResponse { acknowledged })
        };
        end(CALL, call.await)
    }

    async fn receive(
        &self,
        request: Request<Streaming<ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        const CALL: &str = "Receive";
        let (metadata, extensions, mut asked) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, ());
        let first = next(&mut asked).await;
        // What follows is run to its end, as if the request had come whole.
        place(&request)?;
        let begin = async {
            let operator = operator(&self.0, &request, CALL, &[Switch]).await?;
            let act = async {
                let certificate = peer(&request).and_then(|der| Certificate::from_der(&der).ok());
                let certificate = certificate
                    .ok_or_else(|| refused(Reason::IdentityMismatch, "no client certificate"))?;
                let Some(Asked::From(from)) = first? else {
                    return Err(refused(
                        Reason::RequestInvalid,
                        "the first message says of which target, and from where",
                    ));
                };
                Receiving::begin(&self.0, &operator, &certificate, &from).await
            };
            domain::on_record(&self.0, &operator, CALL, act).await
        };
        let receiving = begin
            .await
            .map_err(|error| status(CALL, Audience::Switch, &error))?;
        let (sender, answers) = answers();
        let host = self.0.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = serve(receiving, asked, &sender) => outcome,
                () = stopping(&host) => {
                    let status = Status::unavailable("the host is stopping");
                    sender.try_send(Err(status)).ok();
                    return;
                }
            };
            if let Err(error) = outcome {
                let status = status(CALL, Audience::Switch, &error);
                sender.send(Err(status)).await.ok();
            }
        });
        Ok(Response::new(answers))
    }
}

/// What is put in on one side goes to the caller. So many at most that the caller has not taken.
fn answers<T: Send + 'static>() -> (mpsc::Sender<Result<T, Status>>, Answers<T>) {
    let (sender, mut receiver) = mpsc::channel(usize::try_from(WINDOW).unwrap_or(1));
    let answers = stream::poll_fn(move |context| receiver.poll_recv(context));
    (sender, Box::pin(answers))
}

async fn send_file(
    sender: &mpsc::Sender<Result<FilePart, Status>>,
    header: Part,
    mut file: File,
) -> Result<(), HostError> {
    let mut parts = vec![header];
    while !parts.is_empty() {
        for part in parts {
            let part = FilePart { part: Some(part) };
            if sender.send(Ok(part)).await.is_err() {
                return Ok(());
            }
        }
        let records = file.next().await?;
        parts = records.into_iter().map(Part::Record).collect();
    }
    Ok(())
}

/// What the switch says next; nothing if it has ended the call.
async fn next(asked: &mut Streaming<ReceiveRequest>) -> Result<Option<Asked>, HostError> {
    let message = asked.message().await;
    let message = message.map_err(|status| refused(Reason::RequestInvalid, status.message()))?;
    match message {
        None => Ok(None),
        Some(ReceiveRequest { request: None }) => {
            Err(refused(Reason::RequestInvalid, "a message says nothing"))
        }
        Some(ReceiveRequest { request }) => Ok(request),
    }
}

/// Until the switch hangs up, or something goes wrong.
async fn serve(
    receiving: Receiving,
    asked: Streaming<ReceiveRequest>,
    sender: &mpsc::Sender<Result<ExportRecord, Status>>,
) -> Result<(), HostError> {
    let (newest, acknowledged) = watch::channel(0);
    let sending = pin!(send_records(receiving, acknowledged, sender));
    match select(pin!(listen(asked, newest)), sending).await {
        // What it has acknowledged by then is put down first.
        Either::Left((heard, sending)) => sending.await.and(heard),
        Either::Right((sent, _)) => sent,
    }
}

/// Hears what the switch says, whatever is being done meanwhile: of its acknowledgements, the newest counts. Whoever
/// sends many has one written at a time, with all before it.
async fn listen(
    mut asked: Streaming<ReceiveRequest>,
    newest: watch::Sender<u64>,
) -> Result<(), HostError> {
    while let Some(said) = next(&mut asked).await? {
        match said {
            Asked::Acknowledged(position) => {
                newest.send_modify(|newest| *newest = position.max(*newest));
            }
            Asked::From(_) => {
                return Err(refused(Reason::RequestInvalid, "it has begun already"));
            }
        }
        // Whoever never stops talking does not keep the rest from being done.
        consume_budget().await;
    }
    Ok(())
}

/// Sends records until nobody can acknowledge any more.
async fn send_records(
    mut receiving: Receiving,
    mut acknowledged: watch::Receiver<u64>,
    sender: &mpsc::Sender<Result<ExportRecord, Status>>,
) -> Result<(), HostError> {
    loop {
        let position = *acknowledged.borrow_and_update();
        receiving.acknowledge(position).await?;
        let records = receiving.next().await?;
        let some = !records.is_empty();
        for record in records {
            if sender.send(Ok(record)).await.is_err() {
                return Ok(());
            }
        }
        if some && receiving.has_room() {
            continue;
        }
        tokio::select! {
            heard = acknowledged.changed() => if heard.is_err() {
                return Ok(());
            },
            () = receiving.news() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

fn standing(standing: export::Standing) -> TargetStanding {
    TargetStanding {
        target: Some(standing.target.to_message()),
        approval: Some(message(standing.approval)),
        last: standing.line.last,
        made: standing.line.made,
        sent: standing.marks.sent,
        acknowledged: standing.marks.acknowledged,
        kept_from: standing.marks.erased + 1,
        fault: standing.fault.unwrap_or_default(),
    }
}

/// One whose row is not as the HSM has sealed it: what it says may be anybody's.
fn refused_target(id: String) -> TargetStanding {
    TargetStanding {
        approval: Some(approvals::refused(id)),
        ..TargetStanding::default()
    }
}
