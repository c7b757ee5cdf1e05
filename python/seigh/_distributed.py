"""Ranks by torch.distributed: what the library asks of a process group."""

import socket

import torch

from seigh import _core

# Backends whose messages go from device to device; of others (gloo) those of the host alone are used.
_BETWEEN_DEVICES = ("nccl", "xccl", "hccl", "ucc")


def _distributed():
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        raise ValueError("group= needs torch.distributed: start the processes with torchrun and call torch.distributed.init_process_group() first")
    return dist


def first_process():
    """Whether this is the first of the processes of torch.distributed, or the only one."""
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


class Group:
    """One process of a group: its number and size, and how tensors get from one to another. All of them must make one together."""

    def __init__(self, group):
        dist = self._dist = _distributed()
        self._group = dist.group.WORLD if group is True else group
        self.rank = dist.get_rank(self._group)
        if self.rank < 0:
            raise ValueError("group= is a process group that this process is no member of")
        self.size = dist.get_world_size(self._group)
        self._peers = dist.get_process_group_ranks(self._group)
        backends = dict(part.split(":") for part in str(dist.get_backend_config(self._group)).split(","))
        self._kinds = {kind for kind, backend in backends.items() if kind == "cpu" or backend in _BETWEEN_DEVICES}
        self._here = socket.gethostname(), _core.visible_devices()
        all_of_them = self.gathered(self._here)
        self.on_this_machine = sum(host == self._here[0] for host, _ in all_of_them)
        beside = [i for i, place in enumerate(all_of_them) if place == self._here]
        self.beside, self.number = len(beside), beside.index(self.rank)

    def gathered(self, thing):
        found = [None] * self.size
        self._dist.all_gather_object(found, thing, group=self._group)
        return found

    def sharing(self, device):
        """How many of them compute on this device of this machine; all on one kind of device."""
        mine = self._here, str(device)
        devices = self.gathered(mine)
        kinds = sorted({name.split(":")[0] for _, name in devices})
        if len(kinds) > 1:
            raise ValueError(f"the processes have their models on different kinds of device ({', '.join(kinds)}); move all to one kind")
        return devices.count(mine)

    def takes(self, kind):
        """Whether messages go from such a device ("cuda") to another's without the host."""
        return kind in self._kinds

    def _carried(self, tensor):
        """`tensor` where messages begin and end: on the present card if the group has none between hosts."""
        return tensor if tensor.device.type in self._kinds else tensor.to(torch.accelerator.current_accelerator())

    def broadcast(self, tensor, root):
        """Replaces a vector of bytes on the host by that of rank `root`."""
        carried = self._carried(tensor)
        self._dist.broadcast(carried, self._peers[root], group=self._group)
        if carried is not tensor:
            tensor.copy_(carried)

    def wait(self):
        self._dist.barrier(group=self._group)

    def exchange(self, give, get):
        """give[r] to get[this one] of rank r, for all others: vectors of one dtype."""
        dist, messages, back = self._dist, [], []
        for i in range(1, self.size):
            to, of = (self.rank + i) % self.size, (self.rank - i) % self.size
            if give[to].numel():
                messages.append(dist.P2POp(dist.isend, self._carried(give[to].view(torch.uint8)), self._peers[to], self._group))
            if get[of].numel():
                carried = self._carried(get[of].view(torch.uint8))
                messages.append(dist.P2POp(dist.irecv, carried, self._peers[of], self._group))
                if carried.device != get[of].device:
                    back.append((get[of].view(torch.uint8), carried))
        for work in dist.batch_isend_irecv(messages) if messages else []:
            work.wait()
        for tensor, carried in back:
            tensor.copy_(carried)
