//! The transpose of `sums.rs`, node by node, in the same letters: to Λ, Δ, P, B and C̃.
//!
//! A gradient of a complex z is ∂/∂Re z + i ∂/∂Im z, so z = ab gives g_a = g_z conj(b).

use super::sums::{Inverses, MAX_SIZE, NODES, Node, NodeBlock, SumNumerators};
use crate::{
    linalg::small::solve,
    ssm::params::{C64, HeadGrads},
};

/// Gradients of the sums' numerators and of C̃, added up over the nodes.
pub(super) struct SumsBackward<'s, 'a> {
    sums: &'s SumNumerators<'a>,
    /// In the order of [`SumNumerators::products`].
    dproducts: &'s mut [C64],
    /// (kernel channels, N/2)
    dc_tilde: &'s mut [C64],
}

impl<'s, 'a> SumsBackward<'s, 'a> {
    pub(super) fn new(
        sums: &'s SumNumerators<'a>,
        dproducts: &'s mut [C64],
        dc_tilde: &'s mut [C64],
    ) -> Self {
        dproducts.fill(C64::ZERO);
        dc_tilde.fill(C64::ZERO);
        SumsBackward { sums, dproducts, dc_tilde }
    }

    /// From g_K̂ of every channel at one node to g_ρ′ of every sum, into the node's lane of `dlanes`, and to what the
    /// nearest pair holds.
    pub(super) fn woodbury(
        &mut self,
        grad: &mut HeadGrads<'_>,
        dlanes: &mut [f64],
        node: &Node<'_>,
        g: impl Fn(usize) -> C64,
    ) {
        let (sums, k, c) = (self.sums, node.nearest_pair, node.cos);
        let (size, pairs) = (sums.size(), sums.head.lambda.len());
        let q = sums.unknowns(node);
        let dlanes = dlanes.as_chunks_mut::<NODES>().0;
        let mut drho = |sum: usize, g: C64| {
            (dlanes[2 * sum][node.lane], dlanes[2 * sum + 1][node.lane]) = (g.re, g.im);
        };
        // K̂ = e^{iθ/2} [ C̃ x + conj(C̃) x̃ + ρ′_{C̃B} − c Σ_r ρ′_{C̃P_r} y_r ]
        let mut dq = [C64::ZERO; MAX_SIZE];
        for channel in 0..sums.channels {
            let g = g(channel) * node.phase().conj();
            let c_tilde = sums.c_tilde[channel * pairs + k];
            self.dc_tilde[channel * pairs + k] += g * q[0].conj() + g.conj() * q[1];
            dq[0] += g * c_tilde.conj();
            dq[1] += g * c_tilde;
            drho(channel, g);
            for r in 0..sums.rank {
                let sum = sums.c_p(channel, r);
                drho(sum, -(g * q[2 + r].conj() * c));
                dq[2 + r] -= g * node.rho(sum).conj() * c;
            }
        }
        // M q = h: g_h = M^{−H} g_q, g_M = −g_h q^H
        let m = sums.node_system(node);
        let mut adjoint = [C64::ZERO; MAX_SIZE * MAX_SIZE];
        for (i, z) in adjoint[..size * size].iter_mut().enumerate() {
            *z = m[i % size * size + i / size].conj();
        }
        solve(&mut adjoint[..size * size], &mut dq[..size], size);
        let dm = |row: usize, column: usize| -(dq[row] * q[column].conj());
        grad.b[k] += dq[0] + dq[1].conj();
        let (s, dt) = (node.sin, sums.head.dt[k]);
        let (dd, dd_conj) = (dm(0, 0), dm(1, 1));
        grad.lambda[k] -= (dd + dd_conj.conj()) * c;
        grad.dt[k].re -= 2.0 / (dt * dt) * s * (dd.im + dd_conj.im);
        for r in 0..sums.rank {
            let dp = dm(0, 2 + r) * c + dm(1, 2 + r).conj() * c - dm(2 + r, 0).conj() - dm(2 + r, 1);
            grad.p[r * pairs + k] += dp;
            drho(sums.p_b(r), dq[2 + r]);
            for s in 0..sums.rank {
                drho(sums.p_p(r, s), dm(2 + r, 2 + s) * c);
            }
        }
    }

    /// From g_ρ′ at a block of nodes to the numerators, Λ and Δ: ρ′ = Σ_n z/d + conj(z)/d̃ with
    /// d = i(2/Δ)s − λc, d̃ = i(2/Δ)s − conj(λ)c.
    #[inline(always)]
    pub(super) fn sums(&mut self, grad: &mut HeadGrads<'_>, dlanes: &[f64], block: &NodeBlock) {
        let (head, pairs) = (self.sums.head, self.sums.head.lambda.len());
        let drho = dlanes.as_chunks::<NODES>().0.as_chunks::<2>().0;
        for n in 0..pairs {
            let (dt, lambda) = (head.dt[n], head.lambda[n]);
            let i = Inverses::new(block, n, dt, lambda);
            // Σ conj(z) g and Σ z g over the sums.
            let (mut by_d, mut by_conj) = ([[0.0; NODES]; 2], [[0.0; NODES]; 2]);
            for (k, g) in drho.iter().enumerate() {
                let z = self.sums.products[k * pairs + n];
                let (mut re, mut im) = ([0.0; NODES], [0.0; NODES]);
                for l in 0..NODES {
                    let (g_re, g_im) = (g[0][l], g[1][l]);
                    re[l] = (i.re[l] + i.conj_re[l]) * g_re + (i.im[l] + i.conj_im[l]) * g_im;
                    im[l] = (i.re[l] - i.conj_re[l]) * g_im - (i.im[l] - i.conj_im[l]) * g_re;
                    by_d[0][l] += z.re * g_re + z.im * g_im;
                    by_d[1][l] += z.re * g_im - z.im * g_re;
                    by_conj[0][l] += z.re * g_re - z.im * g_im;
                    by_conj[1][l] += z.re * g_im + z.im * g_re;
                }
                self.dproducts[k * pairs + n] += C64::new(sum(re), sum(im));
            }
            // g_d = −conj(1/d²) Σ conj(z) g, and g_d̃ by the same formula from d̃.
            let (mut d_scale, mut d_re, mut d_im) = ([0.0; NODES], [0.0; NODES], [0.0; NODES]);
            for l in 0..NODES {
                let (re, im) = (i.re[l] * i.re[l] - i.im[l] * i.im[l], 2.0 * i.re[l] * i.im[l]);
                let dd_re = -(re * by_d[0][l] + im * by_d[1][l]);
                let dd_im = -(re * by_d[1][l] - im * by_d[0][l]);
                let (re, im) = (
                    i.conj_re[l] * i.conj_re[l] - i.conj_im[l] * i.conj_im[l],
                    2.0 * i.conj_re[l] * i.conj_im[l],
                );
                let dd_conj_re = -(re * by_conj[0][l] + im * by_conj[1][l]);
                let dd_conj_im = -(re * by_conj[1][l] - im * by_conj[0][l]);
                d_scale[l] = block.sin[l] * (dd_im + dd_conj_im);
                d_re[l] = block.cos[l] * (dd_re + dd_conj_re);
                d_im[l] = block.cos[l] * (dd_im - dd_conj_im);
            }
            grad.dt[n].re -= 2.0 / (dt * dt) * sum(d_scale);
            grad.lambda[n] -= C64::new(sum(d_re), sum(d_im));
        }
    }

    /// From the numerators to B, P and C̃.
    pub(super) fn products(&mut self, grad: &mut HeadGrads<'_>) {
        let (sums, head) = (self.sums, self.sums.head);
        let (pairs, rank) = (head.lambda.len(), sums.rank);
        for n in 0..pairs {
            let g = |k: usize| self.dproducts[k * pairs + n];
            let (b, p) = (head.b[n], |r: usize| head.p(r)[n]);
            for channel in 0..sums.channels {
                let c = sums.c_tilde[channel * pairs + n];
                let dc = &mut self.dc_tilde[channel * pairs + n];
                *dc += g(channel) * b.conj();
                grad.b[n] += g(channel) * c.conj();
                for r in 0..rank {
                    let g = g(sums.c_p(channel, r));
                    *dc += g * p(r).conj();
                    grad.p[r * pairs + n] += g * c.conj();
                }
            }
            for r in 0..rank {
                // conj(P_r) B
                let gb = g(sums.p_b(r));
                grad.b[n] += gb * p(r);
                grad.p[r * pairs + n] += gb.conj() * b;
                for q in 0..rank {
                    // conj(P_r) P_q
                    let g = g(sums.p_p(r, q));
                    grad.p[q * pairs + n] += g * p(r);
                    grad.p[r * pairs + n] += g.conj() * p(q);
                }
            }
        }
    }
}

/// The lanes in a tree.
#[inline(always)]
fn sum(mut x: [f64; NODES]) -> f64 {
    let mut width = NODES / 2;
    while width > 0 {
        for l in 0..width {
            x[l] += x[l + width];
        }
        width /= 2;
    }
    x[0]
}
