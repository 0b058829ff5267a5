//! Allocation, transfers, views, and operations on whole buffers.

use super::suite::{At, GUARD, Out, SENTINEL, Suite, added, take};
use s4_backend::{Backend, EmbeddingForward, Scalar, SeqShape};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn memory(&mut self) {
        for len in self.cases(&[1, 7, 63, 64, 65, 130, 70_001], &[1, 65]) {
            self.transfer_cases(len);
            self.whole_buffer_cases(len);
            self.async_download_case(len);
            self.replay_case(len);
            self.finite_case(len);
        }
        for len in self.cases(&[1, 7, 65, 1000], &[7]) {
            self.integer_case(len);
        }
        let shapes = [(1, 1, 9), (3, 33, 70), (2, 128, 5), (1, 65, 63)];
        for (batch, rows, cols) in self.cases(&shapes, &shapes[..1]) {
            self.transpose_case(batch, rows, cols);
        }
        self.view_cases();
    }

    /// What a view holds.
    fn read(&self, view: B::Ref<'_>) -> Vec<f64> {
        let mut host = vec![B::Scalar::from_f64(0.0); self.be.ref_len(view)];
        self.be.download(&mut host, view).expect("download");
        host.into_iter().map(B::Scalar::to_f64).collect()
    }

    fn scalars(x: &[f64]) -> Vec<B::Scalar> {
        x.iter().map(|&x| B::Scalar::from_f64(x)).collect()
    }

    fn transfer_cases(&mut self, len: usize) {
        let (be, case) = (self.be, format!("{len}"));
        let at = |operation| At { operation, case: &case };
        let mut buf = be.alloc(len + 2 * GUARD).expect("a buffer");
        let whole = 0..len + 2 * GUARD;
        self.exact(at("alloc"), "buffer", &self.download(&buf), &vec![0.0; whole.end]);
        // Downloads without uploads: what a fill has left.
        be.fill(be.view_mut(&mut buf, whole.clone()), B::Scalar::from_f64(SENTINEL)).expect("fill");
        self.exact(at("download"), "dst", &self.download(&buf), &vec![SENTINEL; whole.end]);
        let x = self.normal(len);
        be.upload(be.view_mut(&mut buf, GUARD..GUARD + len), &Self::scalars(&x)).expect("upload");
        let side = [SENTINEL; GUARD];
        self.exact(at("upload"), "dst", &self.download(&buf), &[&side[..], &x, &side].concat());
        let longer = vec![B::Scalar::from_f64(0.0); len + 1];
        let refused = be.upload(be.view_mut(&mut buf, 0..len), &longer);
        self.holds(at("upload"), "refusal of another length", refused.is_err());
        let refused = be.download(&mut longer.clone(), be.view(&buf, 0..len));
        self.holds(at("download"), "refusal of another length", refused.is_err());
        let mut host = Self::scalars(&x);
        if let Some(view) = be.host_ref(&host) {
            self.exact(at("host_ref"), "view", &self.read(view), &x);
        }
        let filled = be.host_mut(&mut host).map(|view| be.fill(view, B::Scalar::from_f64(0.5)));
        if let Some(filled) = filled {
            filled.expect("fill");
            self.exact(at("host_mut"), "view", &crate::wide(&host), &vec![0.5; len]);
        }
    }

    fn whole_buffer_cases(&mut self, len: usize) {
        let (be, case) = (self.be, format!("{len}"));
        let at = |operation| At { operation, case: &case };
        let got = self.outputs(at("fill"), &[], &[], &[Out::Over(len)], &mut |a, _| {
            let [dst] = take(a.outs);
            be.fill(dst, B::Scalar::from_f64(3.5))
        });
        got.iter().for_each(|got| self.exact(at("fill"), "dst", &got[0], &vec![3.5; len]));
        let (x, y) = (self.normal(len), self.normal(len));
        let got = self.outputs(at("copy"), &[&x], &[], &[Out::Over(len)], &mut |a, _| {
            let ([dst], [src]) = (take(a.outs), take(a.ins));
            be.copy(dst, src)
        });
        got.iter().for_each(|got| self.exact(at("copy"), "dst", &got[0], &x));
        let got = self.outputs(at("axpy"), &[&x], &[], &[Out::Add(&y)], &mut |a, _| {
            let ([dst], [src]) = (take(a.outs), take(a.ins));
            be.axpy(dst, B::Scalar::from_f64(-1.5), src)
        });
        let want: Vec<f64> = x.iter().map(|x| -1.5 * x).collect();
        got.iter().for_each(|got| self.value(at("axpy"), "dst", &added(&got[0], &y), &want));
    }

    fn transpose_case(&mut self, batch: usize, rows: usize, cols: usize) {
        let (be, case) = (self.be, format!("({batch}, {rows}, {cols})"));
        let at = At { operation: "transpose", case: &case };
        let x = self.normal(batch * rows * cols);
        let got = self.outputs(at, &[&x], &[], &[Out::Over(x.len())], &mut |a, _| {
            let ([dst], [src]) = (take(a.outs), take(a.ins));
            be.transpose(dst, src, batch, rows, cols)
        });
        let source = |i: usize| (i / (rows * cols) * rows + i % rows) * cols + i / rows % cols;
        let want: Vec<f64> = (0..x.len()).map(|i| x[source(i)]).collect();
        got.iter().for_each(|got| self.exact(at, "dst", &got[0], &want));
    }

    /// A download gives what was there when it was started, and its memory is used again by the next.
    fn async_download_case(&mut self, len: usize) {
        let (be, case) = (self.be, format!("{len}"));
        let at = At { operation: "wait_download", case: &case };
        let mut buf = be.alloc(len).expect("a buffer");
        let mut download = be.async_download(len).expect("memory for a download");
        for value in [1.25, -3.0] {
            be.fill(be.view_mut(&mut buf, 0..len), B::Scalar::from_f64(value)).expect("fill");
            be.start_download(&mut download, be.view(&buf, 0..len)).expect("a download");
            be.fill(be.view_mut(&mut buf, 0..len), B::Scalar::from_f64(99.0)).expect("fill");
            let got = crate::wide(be.wait_download(&mut download).expect("the download"));
            self.exact(at, "result", &got, &vec![value; len]);
        }
    }

    /// The work itself, however often and whether it was recorded or not.
    fn replay_case(&mut self, len: usize) {
        let (be, case) = (self.be, format!("{len}"));
        let at = At { operation: "replay", case: &case };
        let x = self.normal(len);
        let (mut from, mut to) = (be.alloc(len).expect("a buffer"), be.alloc(len).expect("a buffer"));
        be.upload(be.view_mut(&mut from, 0..len), &Self::scalars(&x)).expect("upload");
        let mut graph = B::Graph::default();
        for round in 1..=8u64 {
            let work = be.replay(&mut graph, [round / 5, 0], &mut || {
                be.axpy(be.view_mut(&mut to, 0..len), B::Scalar::from_f64(1.0), be.view(&from, 0..len))
            });
            work.expect("a replay");
            let want: Vec<f64> = x.iter().map(|x| round as f64 * x).collect();
            self.value(at, "work", &self.download(&to), &want);
        }
    }

    fn finite_case(&mut self, len: usize) {
        let case = format!("{len}");
        let at = At { operation: "all_finite", case: &case };
        let mut x = Self::scalars(&self.normal(len));
        let mut right = self.be.all_finite(&x);
        for i in [0, len / 2, len - 1] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let good = std::mem::replace(&mut x[i], B::Scalar::from_f64(bad));
                right &= !self.be.all_finite(&x);
                x[i] = good;
            }
        }
        self.holds(at, "answer", right);
    }

    /// Integers as an operation sees them: rows of a table that holds its own row numbers.
    fn integers_seen(&mut self, ints: &B::Ints, len: usize) -> Vec<f64> {
        let (be, vocabulary) = (self.be, 2048);
        let rows: Vec<f64> = (0..vocabulary).map(|row| row as f64).collect();
        let (mut table, mut y) = (be.alloc(vocabulary).expect("a buffer"), be.alloc(len).expect("a buffer"));
        be.upload(be.view_mut(&mut table, 0..vocabulary), &Self::scalars(&rows)).expect("upload");
        be.embedding_forward(EmbeddingForward {
            y: be.view_mut(&mut y, 0..len),
            table: be.view(&table, 0..vocabulary),
            tokens: ints,
            vocabulary,
            shape: SeqShape { batch: 1, heads: 1, len },
        })
        .expect("rows of a table");
        self.download(&y)
    }

    fn integer_case(&mut self, len: usize) {
        let (be, case) = (self.be, format!("{len}"));
        let at = |operation| At { operation, case: &case };
        let mut ints = be.alloc_ints(len).expect("integers");
        let got = self.integers_seen(&ints, len);
        self.exact(at("alloc_ints"), "buffer", &got, &vec![0.0; len]);
        let values: Vec<i32> = (0..len).map(|i| (i * 7 % 1024) as i32).collect();
        be.upload_ints(&mut ints, &values).expect("upload of integers");
        let want: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        let got = self.integers_seen(&ints, len);
        self.exact(at("upload_ints"), "dst", &got, &want);
        let (count, seen) = (be.ints_len(&ints), be.host_ints(&ints));
        self.holds(at("ints_len"), "answer", count >= len);
        self.holds(at("host_ints"), "answer", seen.is_none_or(|seen| seen[..len] == values[..]));
        let longer = vec![0; count + 1];
        self.holds(at("upload_ints"), "refusal of more", be.upload_ints(&mut ints, &longer).is_err());
    }

    fn view_cases(&mut self) {
        let (be, x) = (self.be, self.normal(130));
        let at = |operation| At { operation, case: "130" };
        let mut buf = be.alloc(130).expect("a buffer");
        be.upload(be.view_mut(&mut buf, 0..130), &Self::scalars(&x)).expect("upload");
        self.holds(at("len"), "answer", be.len(&buf) == 130);
        let view = be.view(&buf, 7..72);
        self.holds(at("ref_len"), "answer", be.ref_len(view) == 65);
        self.exact(at("view"), "view", &self.read(view), &x[7..72]);
        self.exact(at("sub"), "view", &self.read(be.sub(view, 1..64)), &x[8..71]);
        self.exact(at("shorten"), "view", &self.read(be.shorten(view)), &x[7..72]);
        let mut whole = be.view_mut(&mut buf, 1..130);
        self.holds(at("mut_len"), "answer", be.mut_len(&whole) == 129);
        self.exact(at("freeze"), "view", &self.read(be.freeze(&whole)), &x[1..130]);
        be.fill(be.reborrow(&mut whole), B::Scalar::from_f64(2.0)).expect("fill");
        let (left, right) = be.split_mut(whole, 64);
        self.holds(at("split_mut"), "lengths", (be.mut_len(&left), be.mut_len(&right)) == (64, 65));
        be.fill(right, B::Scalar::from_f64(4.0)).expect("fill");
        be.fill(left, B::Scalar::from_f64(3.0)).expect("fill");
        let want = [vec![x[0]], vec![3.0; 64], vec![4.0; 65]].concat();
        self.exact(at("split_mut"), "views", &self.download(&buf), &want);
    }
}
