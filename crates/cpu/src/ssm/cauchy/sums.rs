//! The Cauchy sums of a head and Woodbury's identity at the nodes.
//!
//! A pole near a node makes the sums large and their difference small: what Woodbury subtracts would cancel. So the
//! pair whose pole is nearest is left out of the sums and kept as unknowns of its own: with x, x̃ the states of that
//! pair k and of its conjugate, and y = P*x of the whole state, the resolvent's equations are
//!
//! ```text
//! ⎡  d_k        0         c P_k         ⎤ ⎡ x ⎤   ⎡ B_k       ⎤     d_k = i(2/Δ)s − λ_k c
//! ⎢  0          d̃_k       c conj(P_k)   ⎥ ⎢ x̃ ⎥ = ⎢ conj(B_k) ⎥     d̃_k = i(2/Δ)s − conj(λ_k) c
//! ⎣ −conj(P_k) −P_k       I + c ρ′_{P*P} ⎦ ⎣ y ⎦   ⎣ ρ′_{P*B}  ⎦     ρ′: the sums without pair k
//! ```
//!
//! and K̂ = e^{iθ/2} [ C̃_k x + conj(C̃_k) x̃ + ρ′_{C̃B} − c ρ′_{C̃P} y ]. Eliminating x and x̃ gives the form of the
//! paper back; elimination with pivoting chooses what is stable.

use crate::{
    linalg::small::solve,
    ssm::params::{C64, Head},
};
use s4_backend::SsmSpec;
use std::f64::consts::PI;

/// Nodes that are summed together, one a lane.
pub(super) const NODES: usize = 8;

/// Unknowns of a node's system at the largest rank.
pub(super) const MAX_SIZE: usize = 8 + 2;

/// The numerators of all sums Σ_n z_n / (…) of one head, in the order in which the sums are numbered.
pub(super) struct SumNumerators<'a> {
    pub(super) head: &'a Head<'a>,
    /// (kernel channels, N/2)
    pub(super) c_tilde: &'a [C64],
    /// (sums, N/2): C̃B of every channel, then C̃P (channel, rank), then P*B (rank), then P*P (rank, rank).
    pub(super) products: &'a [C64],
    pub(super) channels: usize,
    pub(super) rank: usize,
}

/// A block of nodes: their angles, and the pair whose pole is nearest to each.
pub(super) struct NodeBlock {
    pub(super) first_node: usize,
    pub(super) sin: [f64; NODES],
    pub(super) cos: [f64; NODES],
    pub(super) nearest_pair: [usize; NODES],
}

/// One node and its sums.
pub(super) struct Node<'a> {
    pub(super) j: usize,
    pub(super) lane: usize,
    pub(super) sin: f64,
    pub(super) cos: f64,
    pub(super) nearest_pair: usize,
    rho: &'a [[f64; NODES]],
}

impl Node<'_> {
    /// ρ′ of sum k.
    pub(super) fn rho(&self, k: usize) -> C64 {
        C64::new(self.rho[2 * k][self.lane], self.rho[2 * k + 1][self.lane])
    }
    /// e^{iθ/2}.
    pub(super) fn phase(&self) -> C64 {
        C64::new(self.cos, self.sin)
    }
}

impl NodeBlock {
    /// The nodes of this block, of `count` in all, with the sums that [`SumNumerators::at`] left in `lanes`.
    pub(super) fn nodes<'a>(&'a self, lanes: &'a [f64], count: usize) -> impl Iterator<Item = Node<'a>> {
        let rho = lanes.as_chunks().0;
        (0..NODES.min(count - self.first_node)).map(move |lane| Node {
            j: self.first_node + lane,
            lane,
            sin: self.sin[lane],
            cos: self.cos[lane],
            nearest_pair: self.nearest_pair[lane],
            rho,
        })
    }
}

/// 1/d and 1/d̃ of one pair at every node of a block; 0 where the pair is the nearest one.
pub(super) struct Inverses {
    pub(super) re: [f64; NODES],
    pub(super) im: [f64; NODES],
    pub(super) conj_re: [f64; NODES],
    pub(super) conj_im: [f64; NODES],
}

impl Inverses {
    #[inline(always)]
    pub(super) fn new(block: &NodeBlock, n: usize, dt: f64, lambda: C64) -> Self {
        let mut out =
            Inverses { re: [0.0; NODES], im: [0.0; NODES], conj_re: [0.0; NODES], conj_im: [0.0; NODES] };
        for l in 0..NODES {
            let (s, c) = ((2.0 / dt) * block.sin[l], block.cos[l]);
            let (re, im, im_conj) = (-lambda.re * c, s - lambda.im * c, s + lambda.im * c);
            let wanted = block.nearest_pair[l] != n;
            let size = if wanted { 1.0 / (re * re + im * im) } else { 0.0 };
            let size_conj = if wanted { 1.0 / (re * re + im_conj * im_conj) } else { 0.0 };
            out.re[l] = re * size;
            out.im[l] = -im * size;
            out.conj_re[l] = re * size_conj;
            out.conj_im[l] = -im_conj * size_conj;
        }
        out
    }
}

impl<'a> SumNumerators<'a> {
    fn count(channels: usize, rank: usize) -> usize {
        channels * (1 + rank) + rank * (1 + rank)
    }

    /// Complex numbers of the numerators.
    pub(super) fn products_len(spec: &SsmSpec) -> usize {
        Self::count(spec.kernel_channels(), spec.rank) * spec.pairs()
    }

    /// Doubles of the sums of a block of nodes.
    pub(super) fn lanes_len(spec: &SsmSpec) -> usize {
        2 * NODES * Self::count(spec.kernel_channels(), spec.rank)
    }

    pub(super) fn new(products: &'a mut [C64], head: &'a Head<'a>, c_tilde: &'a [C64]) -> Self {
        let spec = head.spec();
        let (pairs, rank, channels) = (spec.pairs(), spec.rank, spec.kernel_channels());
        let mut rows = products.chunks_exact_mut(pairs);
        let mut write = |of: &dyn Fn(usize) -> C64| {
            for (n, z) in rows.next().into_iter().flatten().enumerate() {
                *z = of(n);
            }
        };
        for c in c_tilde.chunks_exact(pairs) {
            write(&|n| c[n] * head.b[n]);
        }
        for c in c_tilde.chunks_exact(pairs) {
            for r in 0..rank {
                write(&|n| c[n] * head.p(r)[n]);
            }
        }
        for r in 0..rank {
            write(&|n| head.p(r)[n].conj() * head.b[n]);
        }
        for r in 0..rank {
            for q in 0..rank {
                write(&|n| head.p(r)[n].conj() * head.p(q)[n]);
            }
        }
        SumNumerators { head, c_tilde, products, channels, rank }
    }

    /// Number of the sum C̃P of a channel and a row of P.
    pub(super) fn c_p(&self, channel: usize, r: usize) -> usize {
        self.channels + channel * self.rank + r
    }
    /// Number of the sum P*B.
    pub(super) fn p_b(&self, r: usize) -> usize {
        self.channels * (1 + self.rank) + r
    }
    /// Number of the sum P*P.
    pub(super) fn p_p(&self, r: usize, q: usize) -> usize {
        self.p_b(self.rank) + r * self.rank + q
    }

    /// ρ′ of every sum at nodes first … first + 7, into `lanes`: (sums, Re and Im, nodes).
    #[inline(always)]
    pub(super) fn at(&self, lanes: &mut [f64], first: usize, len: usize) -> NodeBlock {
        let mut block =
            NodeBlock { first_node: first, sin: [0.0; NODES], cos: [0.0; NODES], nearest_pair: [0; NODES] };
        for lane in 0..NODES {
            // Lanes beyond the last node repeat it.
            let j = (first + lane).min(len / 2);
            (block.sin[lane], block.cos[lane]) = (PI * j as f64 / len as f64).sin_cos();
        }
        let mut least = [f64::INFINITY; NODES];
        for (n, (&dt, lambda)) in self.head.dt.iter().zip(self.head.lambda).enumerate() {
            for l in 0..NODES {
                let (s, c) = ((2.0 / dt) * block.sin[l], block.cos[l]);
                // |d|² or |d̃|², whichever is less: s and c are not negative.
                let (re, im) = (lambda.re * c, s - lambda.im.abs() * c);
                let size = re * re + im * im;
                if size < least[l] {
                    (least[l], block.nearest_pair[l]) = (size, n);
                }
            }
        }
        lanes.fill(0.0);
        let (rho, pairs) = (lanes.as_chunks_mut::<NODES>().0, self.head.lambda.len());
        for (n, (&dt, &lambda)) in self.head.dt.iter().zip(self.head.lambda).enumerate() {
            let inverse = Inverses::new(&block, n, dt, lambda);
            // Every numerator meets the sum and the difference of the two inverses:
            // z/d + conj(z)/d̃ = Re z·(1/d + 1/d̃) + i Im z·(1/d − 1/d̃).
            let (mut plus, mut minus) = ([[0.0; NODES]; 2], [[0.0; NODES]; 2]);
            for l in 0..NODES {
                plus[0][l] = inverse.re[l] + inverse.conj_re[l];
                plus[1][l] = inverse.im[l] + inverse.conj_im[l];
                minus[0][l] = inverse.re[l] - inverse.conj_re[l];
                minus[1][l] = inverse.im[l] - inverse.conj_im[l];
            }
            for (k, rho) in rho.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let z = self.products[k * pairs + n];
                for l in 0..NODES {
                    rho[0][l] += z.re * plus[0][l] - z.im * minus[1][l];
                    rho[1][l] += z.re * plus[1][l] + z.im * minus[0][l];
                }
            }
        }
        block
    }

    /// d and d̃ of the nearest pair.
    pub(super) fn denominators(&self, node: &Node<'_>) -> [C64; 2] {
        let (lambda, s) =
            (self.head.lambda[node.nearest_pair], (2.0 / self.head.dt[node.nearest_pair]) * node.sin);
        [lambda, lambda.conj()].map(|lambda| C64::new(0.0, s) - lambda * node.cos)
    }

    /// Unknowns of a node: x, x̃, y.
    pub(super) fn size(&self) -> usize {
        self.rank + 2
    }

    /// The matrix of a node's system.
    pub(super) fn node_system(&self, node: &Node<'_>) -> [C64; MAX_SIZE * MAX_SIZE] {
        let (size, k, c) = (self.size(), node.nearest_pair, node.cos);
        let mut m = [C64::ZERO; MAX_SIZE * MAX_SIZE];
        [m[0], m[size + 1]] = self.denominators(node);
        for r in 0..self.rank {
            let (p, row) = (self.head.p(r)[k], (2 + r) * size);
            (m[2 + r], m[size + 2 + r]) = (p * c, p.conj() * c);
            (m[row], m[row + 1]) = (-p.conj(), -p);
            for q in 0..self.rank {
                m[row + 2 + q] = node.rho(self.p_p(r, q)) * c;
            }
            m[row + 2 + r] += 1.0;
        }
        m
    }

    /// x, x̃, y at a node.
    pub(super) fn unknowns(&self, node: &Node<'_>) -> [C64; MAX_SIZE] {
        let (size, b) = (self.size(), self.head.b[node.nearest_pair]);
        let mut q = [C64::ZERO; MAX_SIZE];
        (q[0], q[1]) = (b, b.conj());
        for r in 0..self.rank {
            q[2 + r] = node.rho(self.p_b(r));
        }
        solve(&mut self.node_system(node)[..size * size], &mut q[..size], size);
        q
    }

    /// K̂ of every channel at one node; `spectra`: (channels, nodes).
    pub(super) fn spectrum(&self, spectra: &mut [C64], node: &Node<'_>, nodes: usize) {
        let (q, pairs) = (self.unknowns(node), self.head.lambda.len());
        for channel in 0..self.channels {
            let c = self.c_tilde[channel * pairs + node.nearest_pair];
            let low_rank: C64 = (0..self.rank).map(|r| node.rho(self.c_p(channel, r)) * q[2 + r]).sum();
            let k = c * q[0] + c.conj() * q[1] + node.rho(channel) - low_rank * node.cos;
            spectra[channel * nodes + node.j] = node.phase() * k;
        }
    }
}
