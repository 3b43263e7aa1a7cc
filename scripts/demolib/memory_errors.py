"""A DIMM as the kernel's EDAC driver shows it below /sys, in a tree of our own: the virtual machines
that this runs on have no memory that could tell errors. lifeboatd reads it as it would read /sys
(`sources.root`)."""
import os

CONTROLLER = 'sys/devices/system/edac/mc/mc0'
FILES = {'mc_name': 'demo', 'size_mb': '16384', 'ce_count': '0', 'ue_count': '0', 'ce_noinfo_count': '0',
         'ue_noinfo_count': '0', 'seconds_since_reset': '86400'}
DIMM = {'dimm_label': 'CPU_SrcID#0_MC#0_Chan#1_DIMM#0', 'dimm_location': 'channel 1 slot 0',
        'dimm_mem_type': 'Registered-DDR4', 'dimm_edac_mode': 'S4ECD4ED', 'size': '16384',
        'dimm_ce_count': '0', 'dimm_ue_count': '0'}


def write(path, text):
  """As sysfs does: readers see the old or the new text."""
  with open(path + '~', 'w', encoding='ascii') as file:
    file.write(text + '\n')
  os.rename(path + '~', path)


class Dimm:
  def __init__(self, root):
    self.root = root
    self.controller = os.path.join(root, CONTROLLER)
    self.directory = os.path.join(self.controller, 'dimm0')
    os.makedirs(self.directory)
    for name, text in FILES.items():
      write(os.path.join(self.controller, name), text)
    for name, text in DIMM.items():
      write(os.path.join(self.directory, name), text)

  def corrected(self, count):
    """So many errors have been corrected since the driver was loaded."""
    write(os.path.join(self.controller, 'ce_count'), str(count))
    self.say(str(count))

  def say(self, text):
    write(os.path.join(self.directory, 'dimm_ce_count'), text)
