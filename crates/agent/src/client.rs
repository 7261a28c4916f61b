//! The other end of `agent.sock`, for the command line and the lab.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use strait_flow::Record;
use thiserror::Error;

use crate::api::{
    Answer, Done, EndpointSpec, EndpointStatus, FlowsRequest, HostPolicyRevision, HostPolicyStatus, Identity,
    IpcacheEntry, PodName, PolicyEntry, Request, Status,
};

/// How long an answer may take. Attaching and enforcing takes milliseconds; a machine under load gets slack.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer line, bytes: a large cluster's ipcache fits.
const ANSWER_LIMIT: u64 = 256 << 20;

/// Why an agent gave no good answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no agent at the socket.
    #[error("no agent answers at {}: {cause} (is it running? `strait status` shows the lab's agents)", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The connection broke, or the answer took too long.
    #[error("the agent at {} went away before it answered: {cause}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The agent speaks of something else: another version.
    #[error("the agent at {} answered what this version does not understand: {detail}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What could not be understood.
        detail: String,
    },
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
}

/// Speaks to the agent behind one socket. One connection a question; nothing is held open between them.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The agent whose socket is at `path`. Connects with the first question.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds or replaces an endpoint; returns once it is enforced.
    pub fn endpoint_add(&self, spec: EndpointSpec) -> Result<Done, ClientError> {
        self.done(&Request::EndpointAdd(spec))
    }

    /// Removes an endpoint.
    pub fn endpoint_delete(&self, name: PodName) -> Result<Done, ClientError> {
        self.done(&Request::EndpointDelete(name))
    }

    /// Has the agent read the objects on disk; returns once they are enforced.
    pub fn wait(&self) -> Result<Done, ClientError> {
        self.done(&Request::Wait)
    }

    /// How the agent is.
    pub fn status(&self) -> Result<Status, ClientError> {
        let Answer::Status(status) = self.ask(&Request::Status)? else { return Err(self.unexpected()) };
        Ok(*status)
    }

    /// Security identities known on the node.
    pub fn identities(&self) -> Result<Vec<Identity>, ClientError> {
        let Answer::Identities(list) = self.ask(&Request::Identities)? else { return Err(self.unexpected()) };
        Ok(list)
    }

    /// Prefixes and their identities.
    pub fn ipcache(&self) -> Result<Vec<IpcacheEntry>, ClientError> {
        let Answer::Ipcache(list) = self.ask(&Request::Ipcache)? else { return Err(self.unexpected()) };
        Ok(list)
    }

    /// Endpoints of the node.
    pub fn endpoints(&self) -> Result<Vec<EndpointStatus>, ClientError> {
        let Answer::Endpoints(list) = self.ask(&Request::Endpoints)? else { return Err(self.unexpected()) };
        Ok(list)
    }

    /// Policy entries in force, of one endpoint or all.
    pub fn policy_map(&self, endpoint: Option<PodName>) -> Result<Vec<PolicyEntry>, ClientError> {
        let Answer::PolicyMap(list) = self.ask(&Request::PolicyMap { endpoint })? else {
            return Err(self.unexpected());
        };
        Ok(list)
    }

    /// Keeps the host policies with this revision, if it is those that are in force.
    pub fn host_policy_confirm(&self, revision: HostPolicyRevision) -> Result<HostPolicyStatus, ClientError> {
        self.host_policy(&Request::HostPolicyConfirm { revision })
    }

    /// Has the host policies with this revision, which were rolled back, tried again.
    pub fn host_policy_retry(&self, revision: HostPolicyRevision) -> Result<HostPolicyStatus, ClientError> {
        self.host_policy(&Request::HostPolicyRetry { revision })
    }

    fn host_policy(&self, request: &Request) -> Result<HostPolicyStatus, ClientError> {
        let Answer::HostPolicy(status) = self.ask(request)? else { return Err(self.unexpected()) };
        Ok(status)
    }

    /// Flow records, oldest first. With `follow` the iterator waits for more and never ends by itself.
    pub fn flows(&self, request: FlowsRequest) -> Result<Flows, ClientError> {
        let mut reader = self.connect(&Request::Flows(request))?;
        let Answer::Flows = self.answer(&mut reader)? else { return Err(self.unexpected()) };
        reader.get_ref().set_read_timeout(None).map_err(|cause| self.broken(cause))?;
        Ok(Flows { client: self.clone(), reader })
    }

    fn done(&self, request: &Request) -> Result<Done, ClientError> {
        let Answer::Done(done) = self.ask(request)? else { return Err(self.unexpected()) };
        Ok(done)
    }

    fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let mut reader = self.connect(request)?;
        self.answer(&mut reader)
    }

    fn connect(&self, request: &Request) -> Result<BufReader<UnixStream>, ClientError> {
        let mut stream =
            UnixStream::connect(&self.path).map_err(|cause| ClientError::Connect { path: self.path.clone(), cause })?;
        let mut line = serde_json::to_vec(request)
            .map_err(|error| ClientError::Answer { path: self.path.clone(), detail: error.to_string() })?;
        line.push(b'\n');
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)))
            .and_then(|()| stream.write_all(&line))
            .map_err(|cause| self.broken(cause))?;
        Ok(BufReader::new(stream))
    }

    fn answer(&self, reader: &mut BufReader<UnixStream>) -> Result<Answer, ClientError> {
        match self.line(reader)? {
            Some(Answer::Error(message)) => Err(ClientError::Refused(message)),
            Some(answer) => Ok(answer),
            None => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// One line; `None` at the end.
    fn line<T: serde::de::DeserializeOwned>(
        &self,
        reader: &mut BufReader<UnixStream>,
    ) -> Result<Option<T>, ClientError> {
        let mut line = Vec::new();
        reader.by_ref().take(ANSWER_LIMIT).read_until(b'\n', &mut line).map_err(|cause| self.broken(cause))?;
        if line.last() != Some(&b'\n') {
            return if line.is_empty() { Ok(None) } else { Err(self.broken(io::ErrorKind::UnexpectedEof.into())) };
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| ClientError::Answer { path: self.path.clone(), detail: error.to_string() })
    }

    fn broken(&self, cause: io::Error) -> ClientError {
        ClientError::Broken { path: self.path.clone(), cause }
    }

    fn unexpected(&self) -> ClientError {
        ClientError::Answer { path: self.path.clone(), detail: "an answer to another question".to_owned() }
    }
}

/// Records as they come.
#[derive(Debug)]
pub struct Flows {
    client: Client,
    reader: BufReader<UnixStream>,
}

impl Iterator for Flows {
    type Item = Result<Record, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.client.line(&mut self.reader).transpose()
    }
}
