// Buttons say what they do by data-do and data-of; focus stays where it was when the pictures are drawn anew, and goes to
// the details of a picture and back.
let last = null;
let wanted = false;
const name = (one) => one && one.dataset && one.dataset.do ? [one.dataset.do, one.dataset.of] : null;
const copy = async (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.body.appendChild(document.createElement('textarea')); // where the page came by plain http
  area.value = text;
  area.select();
  document.execCommand('copy');
  area.remove();
};
element.addEventListener('focusin', (event) => { last = name(event.target.closest('[data-do]')); });
element.addEventListener('click', async (event) => {
  const one = event.target.closest('[data-do]');
  if (!one || !element.contains(one)) return;
  if (one.dataset.do === 'copy' || one.dataset.do === 'recipe') {
    await copy(one.dataset.of);
    one.textContent = 'Copied';
    return;
  }
  if (one.dataset.do === 'show') wanted = true;
  if (one.dataset.do === 'hide') last = ['show', one.dataset.of];
  trigger(one.dataset.do === 'replay' ? 'submit' : 'click', { what: one.dataset.do, of: one.dataset.of });
});
watch('value', () => {
  const run = element.querySelector('[data-run]');
  if (run) {
    const url = new URL(window.location);
    if (url.searchParams.get('run') !== run.dataset.run) {
      url.searchParams.set('run', run.dataset.run);
      history.replaceState(null, '', url);
      if (window.innerWidth <= 640) element.scrollIntoView(); // below the fields, there
    }
  }
  const details = wanted && element.querySelector('.ns-details');
  if (details) {
    wanted = false;
    details.focus();
  } else if (last && document.activeElement === document.body) {
    const again = [...element.querySelectorAll('[data-do]')].find((one) => name(one).join() === last.join());
    if (again) again.focus({ preventScroll: last[0] !== 'show' });
  }
});
