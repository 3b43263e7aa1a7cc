"""The lab's network. The machine's own network namespace is left alone.

  node n1                               switch
  br-10g (address) -- up-10g ======== n1-10g -- br-10g -- n2-10g ======== up-10g ...
                      TBF out                                 TBF out

Each fabric has a bridge in the switch and one in each node; a veth pair joins them and is shaped
with a token bucket at both ends, so that a node sends and receives at the fabric's rate.
"""
import subprocess

from lablib.base import LabError


def batch(proc, tool, lines, where):
  """Feeds commands to `ip -batch` or `tc -batch` in the network namespace of a process."""
  done = subprocess.run(['nsenter', f'--net=/proc/{proc.pid}/ns/net', tool, '-batch', '-'],
                        input='\n'.join(lines) + '\n', text=True, capture_output=True, check=False)
  if done.returncode != 0:
    raise LabError(f'{tool} in {where} failed: {done.stderr.strip() or done.returncode}')


def shape(device, fabric):
  return (f'qdisc replace dev {device} root handle 1: tbf rate {fabric["rate"]} '
          f'burst {fabric["burst"]} latency {fabric["queue"]}')


def make_bridge(fabric):
  name = f'br-{fabric["name"]}'
  return [f'link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0',
          f'link set {name} mtu {fabric["mtu"]} up']


def set_up_switch(switch, config):
  batch(switch, 'ip', ['link set lo up'] + [x for f in config.fabrics for x in make_bridge(f)],
        'the switch')


def plug_in(switch, config, procs):
  """Joins nodes ({name: init}) to the switch, switch side."""
  links, shapes = [], []
  for node, proc in procs.items():
    for fabric in config.fabrics:
      port, up, mtu = f'{node}-{fabric["name"]}', f'up-{fabric["name"]}', fabric['mtu']
      links += [f'link add {port} mtu {mtu} type veth peer name {up} mtu {mtu} netns {proc.pid}',
                f'link set {port} master br-{fabric["name"]} up']
      shapes.append(shape(port, fabric))
  batch(switch, 'ip', links, 'the switch')
  batch(switch, 'tc', shapes, 'the switch')


def set_up_node(config, index, proc):
  """The node's side: bridge with its address, uplink. MACs are fixed: a bridge would otherwise
  take the lowest of its ports' and change it whenever a container comes or goes."""
  node, links, shapes = config.nodes[index], ['link set lo up'], []
  for number, fabric in enumerate(config.fabrics):
    bridge, up = f'br-{fabric["name"]}', f'up-{fabric["name"]}'
    mac = f'02:1b:{number:02x}:00:{index >> 8:02x}:{index & 255:02x}'
    links += [*make_bridge(fabric), f'link set {bridge} address {mac}',
              f'link set {up} master {bridge} up',
              f'address add {node["addresses"][fabric["name"]]}/{fabric["subnet"].prefixlen} '
              f'brd + dev {bridge}']
    shapes.append(shape(up, fabric))
  batch(proc, 'ip', links, f'node {node["name"]}')
  batch(proc, 'tc', shapes, f'node {node["name"]}')


def unplug(switch, node, fabrics):
  """Takes a node's cables away. A power cut starts here: what the kernel sends when it ends the
  node's processes must not reach anybody."""
  for fabric in fabrics:
    subprocess.run(['nsenter', f'--net=/proc/{switch.pid}/ns/net', 'ip', 'link', 'delete',
                    f'{node}-{fabric}'], stderr=subprocess.DEVNULL, check=False)


def set_links(switch, node, fabrics, state):
  batch(switch, 'ip', [f'link set {node}-{fabric} {state}' for fabric in fabrics],
        f'the switch (cable of {node})')
