//! What `cargo xtask bench` measures, and how: subjects, traffic, controller figures, statistics, tables.
//!
//! Subjects take turns within every round, so that whatever else the machine does falls on all of them alike; figures
//! are medians over the rounds.
//!
//! Does not: judge. A slow machine gives other figures, not an error.

pub mod addresses;
pub mod controller;
pub mod cpu;
pub mod dataplane;
pub mod facts;
pub mod names;
pub mod programs;
pub mod report;
pub mod rounds;
pub mod stats;
pub mod subjects;

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Payload of one TCP stream.
    TcpStream,
    /// Processor time for that payload, of the kernel and both ends.
    CpuPerGbit,
    /// Request and response of one byte each.
    TcpTransactions,
    /// Median time of such an exchange.
    TcpMedian,
    /// The time that 99 of 100 exchanges take at most.
    TcpWorst,
    /// Small datagrams that arrive.
    UdpPackets,
    /// Connections opened and closed.
    Connects,
    /// A run of the program on the sending container's interface, for a small datagram.
    ContainerRun,
    /// A run of the program on the receiving host's underlay device, for the same.
    UnderlayRun,
}

impl Metric {
    /// All, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::TcpStream,
        Self::CpuPerGbit,
        Self::TcpTransactions,
        Self::TcpMedian,
        Self::TcpWorst,
        Self::UdpPackets,
        Self::Connects,
        Self::ContainerRun,
        Self::UnderlayRun,
    ];

    /// Its row in the table.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::TcpStream => "TCP stream",
            Self::CpuPerGbit => "  its processor time",
            Self::TcpTransactions => "TCP request-response",
            Self::TcpMedian => "  its median",
            Self::TcpWorst => "  its 99th percentile",
            Self::UdpPackets => "UDP of 64 bytes",
            Self::Connects => "TCP connect and close",
            Self::ContainerRun => "UDP of 64 bytes: container's program",
            Self::UnderlayRun => "  underlay's program",
        }
    }

    /// Unit of its figures.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::TcpStream => "Gbit/s",
            Self::CpuPerGbit => "s/Gbit (less is better)",
            Self::TcpTransactions => "1000/s",
            Self::TcpMedian | Self::TcpWorst => "us (less is better)",
            Self::ContainerRun | Self::UnderlayRun => "ns a run (less is better)",
            Self::UdpPackets => "1000/s arrived",
            Self::Connects => "1000/s",
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::TcpStream => "tcp_stream_gbit_per_s",
            Self::CpuPerGbit => "cpu_s_per_gbit",
            Self::TcpTransactions => "tcp_transactions_k_per_s",
            Self::TcpMedian => "tcp_median_us",
            Self::TcpWorst => "tcp_p99_us",
            Self::UdpPackets => "udp_64_k_per_s",
            Self::Connects => "tcp_connects_k_per_s",
            Self::ContainerRun => "container_program_ns",
            Self::UnderlayRun => "underlay_program_ns",
        }
    }
}
