//! The messages of the CRI that these tests send and read: `runtime.v1` of k8s.io/cri-api,
//! `pkg/apis/runtime/v1/api.proto`, where every field has the number that it has here. What is
//! left out is left out on the wire too (proto3).

use std::collections::HashMap;

use prost::Message;

/// `PodSandboxMetadata`: what Kubernetes calls a pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxMetadata {
    /// The pod's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The pod's UID.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// The pod's namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// How many sandboxes of the same pod there were before this one.
    #[prost(uint32, tag = "4")]
    pub attempt: u32,
}

/// `PortMapping`: what becomes `runtimeConfig.portMappings` of a CNI configuration.
#[derive(Clone, PartialEq, Message)]
pub struct PortMapping {
    /// 0 TCP, 1 UDP, 2 SCTP.
    #[prost(int32, tag = "1")]
    pub protocol: i32,
    /// The port in the pod.
    #[prost(int32, tag = "2")]
    pub container_port: i32,
    /// The node's port.
    #[prost(int32, tag = "3")]
    pub host_port: i32,
    /// The node's address; any when empty.
    #[prost(string, tag = "4")]
    pub host_ip: String,
}

/// `DNSConfig`: what becomes `runtimeConfig.dns`, and the containers' `resolv.conf`.
#[derive(Clone, PartialEq, Message)]
pub struct DnsConfig {
    /// Addresses of name servers.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
    /// Domains to search.
    #[prost(string, repeated, tag = "2")]
    pub searches: Vec<String>,
    /// Options of resolv.conf(5).
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

/// `PodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxConfig {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    /// The pod's host name.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// Where containers' logs go; nowhere when empty.
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// Name service.
    #[prost(message, optional, tag = "4")]
    pub dns_config: Option<DnsConfig>,
    /// Ports of the node that lead to the pod.
    #[prost(message, repeated, tag = "5")]
    pub port_mappings: Vec<PortMapping>,
    /// Labels.
    #[prost(map = "string, string", tag = "6")]
    pub labels: HashMap<String, String>,
    /// Annotations, as `kubernetes.io/ingress-bandwidth`, from which containerd makes
    /// `runtimeConfig.bandwidth`.
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
    /// Makes a Linux sandbox of it.
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

/// `LinuxPodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxPodSandboxConfig {
    /// The cgroup above the sandbox's; the runtime's own choice when empty.
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// What the sandbox may do.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxSandboxSecurityContext>,
}

/// `LinuxSandboxSecurityContext`.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandboxSecurityContext {
    /// Its namespaces.
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
}

/// `NamespaceOption`: whose namespaces a container has, 0 its pod's, 1 its own, 2 the node's.
#[derive(Clone, PartialEq, Message)]
pub struct NamespaceOption {
    /// The network's.
    #[prost(int32, tag = "1")]
    pub network: i32,
    /// The processes'.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// That of System V IPC.
    #[prost(int32, tag = "3")]
    pub ipc: i32,
}

/// `RunPodSandboxRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct RunPodSandboxRequest {
    /// The sandbox.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodSandboxConfig>,
}

/// The id of a sandbox: `RunPodSandboxResponse`, `StopPodSandboxRequest` and
/// `RemovePodSandboxRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `PodSandboxStatusRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxStatusRequest {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether the answer has `info`.
    #[prost(bool, tag = "2")]
    pub verbose: bool,
}

/// `PodSandboxStatusResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxStatusResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<PodSandboxStatus>,
    /// The runtime's own: containerd's `info` is a JSON object with `pid`, `runtimeSpec` and
    /// `cniResult`.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// `PodSandboxStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxStatus {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// 0 ready, 1 not ready.
    #[prost(int32, tag = "3")]
    pub state: i32,
    /// Addresses.
    #[prost(message, optional, tag = "5")]
    pub network: Option<PodSandboxNetworkStatus>,
}

/// `PodSandboxNetworkStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxNetworkStatus {
    /// The pod's first address.
    #[prost(string, tag = "1")]
    pub ip: String,
    /// Its others.
    #[prost(message, repeated, tag = "2")]
    pub additional_ips: Vec<PodIp>,
}

/// `PodIP`.
#[derive(Clone, PartialEq, Message)]
pub struct PodIp {
    /// The address.
    #[prost(string, tag = "1")]
    pub ip: String,
}

/// `ListPodSandboxRequest`, without a filter.
#[derive(Clone, PartialEq, Message)]
pub struct ListPodSandboxRequest {}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ListPodSandboxResponse {
    /// The sandboxes.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandboxItem>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxItem {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// 0 ready, 1 not ready.
    #[prost(int32, tag = "3")]
    pub state: i32,
}

/// `ContainerMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerMetadata {
    /// The container's name in the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many there were before.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// `ImageSpec`.
#[derive(Clone, PartialEq, Message)]
pub struct ImageSpec {
    /// The reference.
    #[prost(string, tag = "1")]
    pub image: String,
}

/// `ImageStatusRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ImageStatusRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// `ImageStatusResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ImageStatusResponse {
    /// The image, if there is one.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// `Image`.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `ContainerConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    /// Its image.
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    /// The program and its arguments, in place of the image's entry point.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Makes a Linux container of it.
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
}

/// `LinuxContainerConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerConfig {
    /// What the container may do.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxContainerSecurityContext>,
}

/// `LinuxContainerSecurityContext`.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerSecurityContext {
    /// Its namespaces.
    #[prost(message, optional, tag = "3")]
    pub namespace_options: Option<NamespaceOption>,
}

/// `CreateContainerRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerRequest {
    /// The sandbox's id.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The sandbox, as it was given to `RunPodSandbox`.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// The id of a container: `CreateContainerResponse` and `StartContainerRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `ContainerStatusRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatusRequest {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Whether the answer has `info`.
    #[prost(bool, tag = "2")]
    pub verbose: bool,
}

/// `ContainerStatusResponse`, of which only the runtime's own is read.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatusResponse {
    /// The runtime's own: containerd's `info` is a JSON object with `pid`.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// `ExecSyncRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecSyncRequest {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The program and its arguments.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// How long it may take in seconds; 0 is for ever.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// `ExecSyncResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecSyncResponse {
    /// Standard output.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// Standard error.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// The exit status.
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

/// `StatusRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct StatusRequest {}

/// `StatusResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
}

/// `RuntimeStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeStatus {
    /// `RuntimeReady` and `NetworkReady`.
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

/// `RuntimeCondition`.
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeCondition {
    /// Its name.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Whether it holds.
    #[prost(bool, tag = "2")]
    pub status: bool,
    /// Why not, in one word.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// Why not.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// The answer of requests that only succeed or fail.
#[derive(Clone, PartialEq, Message)]
pub struct Nothing {}
