//! A method per request, which unpacks the one reply it can have.

use ipnet::IpNet;

use super::{Client, ClientError};
use crate::{
    Attachment, AttachmentKey, FdbEntry, FlowEntry, NeighbourEntry, PodCheck, PodInfo, PodSpec,
    PortInfo, PortSpec, Readiness, Reply, Request, RouteInfo, RouteLookup, RouteSpec, StatsReport,
    StatusReport,
};

impl Client {
    /// Attaches a port, and returns what the pod behind it has to be told.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn port_add(&mut self, port: PortSpec) -> Result<Attachment, ClientError> {
        match self.call(&Request::PortAdd(port))? {
            Reply::Attached(attachment) => Ok(attachment),
            other => Err(self.mismatch(&other)),
        }
    }

    /// Detaches a port.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn port_del(&mut self, name: &str) -> Result<(), ClientError> {
        self.done(&Request::PortDel {
            name: name.to_owned(),
        })
    }

    /// All ports.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn port_list(&mut self) -> Result<Vec<PortInfo>, ClientError> {
        match self.call(&Request::PortList)? {
            Reply::Ports(ports) => Ok(ports),
            other => Err(self.mismatch(&other)),
        }
    }

    /// Installs or replaces a route.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn route_add(&mut self, route: RouteSpec) -> Result<(), ClientError> {
        self.done(&Request::RouteAdd(route))
    }

    /// Removes the route of exactly this prefix.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn route_del(&mut self, prefix: IpNet) -> Result<(), ClientError> {
        self.done(&Request::RouteDel { prefix })
    }

    /// All routes, in address order.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn route_list(&mut self) -> Result<Vec<RouteInfo>, ClientError> {
        match self.call(&Request::RouteList)? {
            Reply::Routes(routes) => Ok(routes),
            other => Err(self.mismatch(&other)),
        }
    }

    /// The route that a destination takes, and those around it; with `covered`, also those inside
    /// it, this many at most.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn route_get(
        &mut self,
        prefix: IpNet,
        covered: Option<u32>,
    ) -> Result<RouteLookup, ClientError> {
        match self.call(&Request::RouteGet { prefix, covered })? {
            Reply::Route(route) => Ok(route),
            other => Err(self.mismatch(&other)),
        }
    }

    /// The MAC table (L2 mode).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn fdb_list(&mut self) -> Result<Vec<FdbEntry>, ClientError> {
        match self.call(&Request::FdbList)? {
            Reply::Fdb(fdb) => Ok(fdb),
            other => Err(self.mismatch(&other)),
        }
    }

    /// The neighbours.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn neigh_list(&mut self) -> Result<Vec<NeighbourEntry>, ClientError> {
        match self.call(&Request::NeighList)? {
            Reply::Neighbours(neighbours) => Ok(neighbours),
            other => Err(self.mismatch(&other)),
        }
    }

    /// The connections to services whose replies go through the node's stack.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn flow_list(&mut self) -> Result<Vec<FlowEntry>, ClientError> {
        match self.call(&Request::FlowList)? {
            Reply::Flows(flows) => Ok(flows),
            other => Err(self.mismatch(&other)),
        }
    }

    /// The counters.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stats(&mut self) -> Result<StatsReport, ClientError> {
        match self.call(&Request::Stats)? {
            Reply::Stats(stats) => Ok(stats),
            other => Err(self.mismatch(&other)),
        }
    }

    /// What the daemon is and how it runs.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn status(&mut self) -> Result<StatusReport, ClientError> {
        match self.call(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => Err(self.mismatch(&other)),
        }
    }

    /// Attaches a pod; see [`Request::PodAttach`].
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pod_attach(&mut self, pod: PodSpec) -> Result<PodInfo, ClientError> {
        match self.call(&Request::PodAttach(Box::new(pod)))? {
            Reply::Pod(pod) => Ok(*pod),
            other => Err(self.mismatch(&other)),
        }
    }

    /// Detaches a pod, if it is attached.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pod_detach(&mut self, key: AttachmentKey) -> Result<(), ClientError> {
        self.done(&Request::PodDetach { key })
    }

    /// Compares an attachment with the kernel.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientError::Refused`] says what differs.
    pub fn pod_check(&mut self, check: PodCheck) -> Result<(), ClientError> {
        self.done(&Request::PodCheck(Box::new(check)))
    }

    /// The attached pods, of one network or all, by key.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pod_list(&mut self, network: Option<&str>) -> Result<Vec<PodInfo>, ClientError> {
        let network = network.map(str::to_owned);
        match self.call(&Request::PodList { network })? {
            Reply::Pods(pods) => Ok(pods),
            other => Err(self.mismatch(&other)),
        }
    }

    /// Whether pods can be attached, and this one if a key is given; see [`Request::Readiness`].
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn readiness(&mut self, key: Option<AttachmentKey>) -> Result<Readiness, ClientError> {
        match self.call(&Request::Readiness { key })? {
            Reply::Readiness(readiness) => Ok(readiness),
            other => Err(self.mismatch(&other)),
        }
    }

    fn done(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            other => Err(self.mismatch(&other)),
        }
    }
}
