//! Carries requests to a real ZooKeeper.
//!
//! Invariant: [`send`] hands the request to the session before it returns, so requests keep the order of the calls
//! whatever is awaited when.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zookeeper_client::{
    Acl, AuthId, Client, CreateMode as ZkCreateMode, CreateOptions, Error, MultiWriteError,
    MultiWriteResult, OneshotWatcher, Permission,
};

use super::{Access, Answer, CreateMode, Failure, Request, Stat, WriteOp, Written, ZkError};
use crate::target::ZkTarget;

/// A session with a real ZooKeeper. A clone is the same session; it closes when the last is dropped.
pub type Session = Client;

/// An answer, and the watch that the request set.
pub struct Reply {
    /// The answer, or why there is none.
    pub result: Result<Answer, Failure>,
    /// Fires once; only for requests that asked for it and set it.
    pub watch: Option<OneshotWatcher>,
}

/// The reply that [`send`] promises.
pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Opens a session. Gives up after about the session timeout.
///
/// # Errors
/// What the client says.
pub async fn connect(target: &ZkTarget, session_timeout: Duration) -> Result<Session, ZkError> {
    let mut connector = Client::connector().with_session_timeout(session_timeout);
    if let Some(credentials) = &target.credentials {
        connector = connector.with_auth("digest", credentials.as_bytes());
    }
    connector
        .connect(&target.connect_string())
        .await
        .map_err(error)
}

/// Hands a request to the session and returns its reply to be.
///
/// `restricted` says that the session has credentials, so that [`Access`] can be kept.
pub fn send(client: &Session, restricted: bool, request: Request) -> ReplyFuture {
    let client = client.clone();
    let mut reply: ReplyFuture = Box::pin(perform(client, restricted, request));
    // The client hands a request over when the future of its method is made, which the first poll does.
    match reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => Box::pin(std::future::ready(reply)),
        Poll::Pending => reply,
    }
}

async fn perform(client: Client, restricted: bool, request: Request) -> Reply {
    let mut watch = None;
    let result = match request {
        Request::Write(op) => write(&client, restricted, op).await.map(Answer::Written),
        Request::Multi(ops) => multi(&client, restricted, &ops).await.map(Answer::Multi),
        Request::Get { path, sync } => match get(&client, &path, sync).await {
            Ok(answer) => Ok(answer),
            Err(err) => Err(error(err).into()),
        },
        Request::Exists { path, watch: true } => match client.check_and_watch_stat(&path).await {
            Ok((stat, watcher)) => {
                watch = Some(watcher);
                Ok(Answer::Exists(stat.as_ref().map(convert)))
            }
            Err(err) => Err(error(err).into()),
        },
        Request::Exists { path, watch: false } => match client.check_stat(&path).await {
            Ok(stat) => Ok(Answer::Exists(stat.as_ref().map(convert))),
            Err(err) => Err(error(err).into()),
        },
        Request::Children {
            path,
            watch: wanted,
            sync,
        } => match children(&client, &path, wanted, sync).await {
            Ok((answer, watcher)) => {
                watch = watcher;
                Ok(answer)
            }
            Err(err) => Err(error(err).into()),
        },
    };
    Reply { result, watch }
}

async fn get(client: &Client, path: &str, sync: bool) -> Result<Answer, Error> {
    // Both requests are handed over before either is awaited: the read follows the sync at once.
    let synced = sync.then(|| client.sync(path));
    let data = client.get_data(path);
    if let Some(synced) = synced {
        synced.await?;
    }
    let (data, stat) = data.await?;
    Ok(Answer::Data {
        data: data.into(),
        stat: convert(&stat),
    })
}

async fn children(
    client: &Client,
    path: &str,
    watch: bool,
    sync: bool,
) -> Result<(Answer, Option<OneshotWatcher>), Error> {
    // As in `get`.
    let synced = sync.then(|| client.sync(path));
    let answer = |names, stat| Answer::Children {
        names,
        stat: convert(&stat),
    };
    if watch {
        let list = client.get_and_watch_children(path);
        if let Some(synced) = synced {
            synced.await?;
        }
        let (names, stat, watcher) = list.await?;
        Ok((answer(names, stat), Some(watcher)))
    } else {
        let list = client.get_children(path);
        if let Some(synced) = synced {
            synced.await?;
        }
        let (names, stat) = list.await?;
        Ok((answer(names, stat), None))
    }
}

async fn write(client: &Client, restricted: bool, op: WriteOp) -> Result<Written, Failure> {
    let written = match op {
        WriteOp::Create {
            path,
            data,
            mode,
            access,
        } => {
            let acls = acls(restricted, access);
            let options = options(mode, &acls);
            let created = client.create(&path, &data, &options).await.map_err(error)?;
            let path = match mode {
                CreateMode::EphemeralSequential => format!("{path}{}", created.1),
                CreateMode::Persistent | CreateMode::Ephemeral => path,
            };
            Written::Created { path }
        }
        WriteOp::Set {
            path,
            data,
            version,
        } => {
            let stat = client
                .set_data(&path, &data, version)
                .await
                .map_err(error)?;
            Written::Set {
                version: stat.version,
            }
        }
        WriteOp::Delete { path, version } => {
            client.delete(&path, version).await.map_err(error)?;
            Written::Deleted
        }
        WriteOp::Check { .. } => {
            let words = "a check stands only within a multi".to_owned();
            return Err(ZkError::Unexpected(words).into());
        }
    };
    Ok(written)
}

async fn multi(
    client: &Client,
    restricted: bool,
    ops: &[WriteOp],
) -> Result<Vec<Written>, Failure> {
    let mut writer = client.new_multi_writer();
    for (index, op) in ops.iter().enumerate() {
        let added = match op {
            WriteOp::Create {
                path,
                data,
                mode,
                access,
            } => {
                let acls = acls(restricted, *access);
                writer.add_create(path, data, &options(*mode, &acls))
            }
            WriteOp::Set {
                path,
                data,
                version,
            } => writer.add_set_data(path, data, *version),
            WriteOp::Delete { path, version } => writer.add_delete(path, *version),
            WriteOp::Check { path, version } => {
                writer.add_check_version(path, version.unwrap_or(-1))
            }
        };
        added.map_err(|err| Failure::Op {
            index,
            error: error(err),
        })?;
    }
    match writer.commit().await {
        Ok(results) => Ok(results.into_iter().map(written).collect()),
        Err(MultiWriteError::RequestFailed { source }) => Err(error(source).into()),
        Err(MultiWriteError::OperationFailed { index, source }) => Err(Failure::Op {
            index,
            error: error(source),
        }),
    }
}

fn written(result: MultiWriteResult) -> Written {
    match result {
        MultiWriteResult::Create { path, .. } => Written::Created { path },
        MultiWriteResult::SetData { stat } => Written::Set {
            version: stat.version,
        },
        MultiWriteResult::Delete => Written::Deleted,
        // `Check`; the enum may grow, but only answers to what was asked arrive here.
        _ => Written::Checked,
    }
}

fn acls(restricted: bool, access: Access) -> Vec<Acl> {
    let creator = Acl::new(Permission::ALL, AuthId::authed());
    match (restricted, access) {
        (false, _) => vec![Acl::new(Permission::ALL, AuthId::anyone())],
        (true, Access::Readable) => vec![creator, Acl::new(Permission::READ, AuthId::anyone())],
        (true, Access::Private) => vec![creator],
    }
}

fn options<'a>(mode: CreateMode, acls: &'a [Acl]) -> CreateOptions<'a> {
    let mode = match mode {
        CreateMode::Persistent => ZkCreateMode::Persistent,
        CreateMode::Ephemeral => ZkCreateMode::Ephemeral,
        CreateMode::EphemeralSequential => ZkCreateMode::EphemeralSequential,
    };
    mode.with_acls(acls.into())
}

fn convert(stat: &zookeeper_client::Stat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        version: stat.version,
        cversion: stat.cversion,
        ephemeral_owner: stat.ephemeral_owner,
        num_children: stat.num_children,
    }
}

/// What an error of the client means here.
pub(crate) fn error(err: Error) -> ZkError {
    match err {
        Error::NoNode => ZkError::NoNode,
        Error::NodeExists => ZkError::NodeExists,
        Error::BadVersion => ZkError::BadVersion,
        Error::NotEmpty => ZkError::NotEmpty,
        Error::NoChildrenForEphemerals => ZkError::NoChildrenForEphemerals,
        Error::NoAuth | Error::InvalidAcl | Error::AuthFailed => ZkError::NoAuth,
        Error::SessionExpired | Error::SessionMoved | Error::ClientClosed => {
            ZkError::SessionExpired
        }
        Error::ConnectionLoss => ZkError::ConnectionLoss,
        // The client reports a broken socket and a silent server by their own errors: in doubt like a loss.
        Error::Custom(_) | Error::Timeout => ZkError::ConnectionLoss,
        other => ZkError::Unexpected(other.to_string()),
    }
}
